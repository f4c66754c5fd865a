"""The inventory with otelagent in its code, started after the application and all its libraries are imported."""

from inventory import app, main  # type: ignore[import-not-found]

import otelagent

otelagent.init(service_name="inventory")

__all__ = ["app"]

if __name__ == "__main__":
    main()
