"""Which package of OpenTelemetry's contrib instruments a library that otelagent has no instrumentation for."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["PACKAGES"]

_PREFIX = "opentelemetry-instrumentation-"

# Top-level module -> what the package's name ends in.
PACKAGES: Mapping[str, str] = {
    module: _PREFIX + name
    for module, name in {
        "aio_pika": "aio-pika",
        "aiohttp": "aiohttp-client",
        "aiokafka": "aiokafka",
        "aiopg": "aiopg",
        "asyncpg": "asyncpg",
        "boto": "boto",
        "botocore": "botocore",
        "cassandra": "cassandra",
        "celery": "celery",
        "confluent_kafka": "confluent-kafka",
        "django": "django",
        "elasticsearch": "elasticsearch",
        "falcon": "falcon",
        "kafka": "kafka-python",
        "MySQLdb": "mysqlclient",
        "pika": "pika",
        "psycopg": "psycopg",
        "psycopg2": "psycopg2",
        "pymemcache": "pymemcache",
        "pymongo": "pymongo",
        "pymssql": "pymssql",
        "pymysql": "pymysql",
        "pyramid": "pyramid",
        "redis": "redis",
        "remoulade": "remoulade",
        "sqlalchemy": "sqlalchemy",
        "tornado": "tornado",
        "tortoise": "tortoiseorm",
    }.items()
}
