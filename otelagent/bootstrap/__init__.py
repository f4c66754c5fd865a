"""How otelagent comes to life in an interpreter that it did not start itself: see `pythonpath/sitecustomize.py`."""
