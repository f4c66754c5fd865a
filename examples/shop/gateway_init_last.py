"""The gateway with otelagent in its code, started after the application and all its libraries are imported."""

from gateway import app, main  # type: ignore[import-not-found]

import otelagent

otelagent.init(service_name="gateway")

__all__ = ["app"]

if __name__ == "__main__":
    main()
