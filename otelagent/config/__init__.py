"""What a user may set.

`load` reads keywords and the environment into one frozen `Config`; `SETTINGS` is the table behind it.
"""

from otelagent.config.load import load
from otelagent.config.mask import Secret
from otelagent.config.model import Config
from otelagent.config.settings import SETTINGS

__all__ = ["SETTINGS", "Config", "Secret", "load"]
