"""Puts `otelagent.TracerProvider` in the place of the SDK's, in the tests' process and those that they start."""

import opentelemetry.sdk.trace

import otelagent

vars(opentelemetry.sdk.trace)["TracerProvider"] = otelagent.TracerProvider
