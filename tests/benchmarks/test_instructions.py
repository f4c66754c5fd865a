"""How counted instructions are grouped."""

from __future__ import annotations

from collections import Counter

from benchmarks.instructions import GROUPS, grouped


def test_every_function_is_in_one_group() -> None:
    counts = Counter(
        {
            "": 31,
            "ceval.c:_PyEval_EvalFrameDefault": 1,
            "context.c:PyContextVar_Set": 2,
            "attributes.rs:otelagent_core::attributes::Attributes::set": 4,
            "ffi.rs:_otelagent_native::ffi::enter": 8,
            "memmove-vec-unaligned-erms.S:__memcpy_avx_unaligned_erms": 16,
        }
    )
    groups = grouped(counts)
    assert groups[""] == sum(count for group, count in groups.items() if group) == 31
    names = list(GROUPS)
    assert [groups[name] for name in (names[0], names[1], names[5], names[7], names[-1])] == [1, 2, 4, 8, 16]
