"""The inventory with otelagent in its code, started before the application is imported."""

import otelagent

otelagent.init(service_name="inventory")

from inventory import app, main  # type: ignore[import-not-found]  # noqa: E402

__all__ = ["app"]

if __name__ == "__main__":
    main()
