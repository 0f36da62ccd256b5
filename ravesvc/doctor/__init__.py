"""What a machine has to give to the bots and their sandbox: checked for `ravectl doctor`.

`checks` judges and does no I/O; `machine` finds out what there is to judge.
"""
