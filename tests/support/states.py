"""Lines of `ipsec whack --showstates`, as 4.10 prints them."""

IKE = '000 #1: "a-1":4500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); REKEY in 9s; newest;'
CHILD = '000 #2: "a-1":4500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA); IKE SA #1; idle;'
REQUEST = (
    '000 #3: "a-0":4500 STATE_V2_NEW_CHILD_I1 (sent CREATE_CHILD_SA request for new IPsec SA);'
    " RETRANSMIT in 1s; IKE SA #1; idle;"
)
