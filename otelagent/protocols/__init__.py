"""The interfaces many libraries share, traced once: WSGI and ASGI servers, DB-API drivers."""
