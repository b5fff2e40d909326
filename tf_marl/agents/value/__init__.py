"""Off-policy learners of action values come in three variants: IQL, VDN and QMIX."""
