"""docs/doctor.md lists every check, and each is shown by tests that there are."""

from __future__ import annotations

import ast
from pathlib import Path

from otelagent.doctor.examine import all_checks

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "doctor.md"
BEGIN, END = "<!-- checks:begin -->", "<!-- checks:end -->"
TITLES = {
    "settings": "Settings",
    "destination": "Destinations",
    "command": "The command",
    "viewer": "The viewer",
}

# Which tests show a check failing, and passing after its advice: names in the files beside this one and of the real
# collector's.
SHOWN = {
    "settings": (
        "test_a_wrong_setting_and_where_it_came_from",
        "test_a_setting_that_is_ignored",
        "test_all_that_is_wrong_is_told_at_once",
    ),
    "enabled": ("test_switched_off",),
    "service_name": ("test_no_name",),
    "sampler": ("test_a_sampler_that_leaves_out_all",),
    "engine": ("test_an_engine_that_is_not_there",),
    "dns": ("test_a_name_without_an_address",),
    "connect": ("test_nothing_listens_and_then_a_collector_does",),
    "loopback": ("test_loopback_of_the_other_family", "test_localhost_is_the_other_family_alone"),
    "proxy": ("test_a_proxy_that_exports_do_not_go_through",),
    "scheme": (
        "test_http_to_a_port_with_tls",
        "test_https_to_a_port_without_tls",
        "test_grpc_with_tls_to_a_port_without",
    ),
    "certificate": (
        "test_an_authority_that_is_not_trusted",
        "test_a_certificate_that_does_not_fit",
        "test_a_certificate_file_that_is_none",
    ),
    "client_certificate": (
        "test_the_server_wants_a_certificate_of_the_client",
        "test_a_certificate_of_the_client_that_is_not_taken",
    ),
    "protocol": (
        "test_http_to_a_grpc_port",
        "test_grpc_to_an_http_port",
        "test_the_other_protocols_port_where_nothing_answers",
        "test_the_collectors_other_port",
    ),
    "receiver": (
        "test_a_web_server_is_no_receiver",
        "test_an_application_is_no_receiver",
        "test_the_page_of_something_that_shows_traces",
        "test_a_port_that_speaks_neither_http_nor_grpc",
        "test_a_grpc_server_that_takes_no_otlp",
        "test_an_answer_that_is_empty_and_a_page",
    ),
    "path": (
        "test_a_doubled_path",
        "test_a_wrong_path_and_what_the_variable_in_force_takes",
        "test_a_path_that_the_server_has_not",
        "test_a_doubled_path_at_the_collector",
    ),
    "credentials": (
        "test_no_credentials_and_wrong_ones",
        "test_the_server_knows_the_client_and_forbids_it",
        "test_a_token_file_that_is_missing_or_has_expired",
        "test_the_collector_wants_a_token",
    ),
    "clock": ("test_clocks_that_disagree",),
    "span": (
        "test_nothing_listens_and_then_a_collector_does",
        "test_a_span_that_the_server_takes_and_refuses",
        "test_a_receiver_of_other_signals",
        "test_a_collector_without_a_pipeline_for_traces",
    ),
    "log_record": ("test_nothing_listens_and_then_a_collector_does",),
    "metric": ("test_a_server_without_metrics_is_only_told", "test_a_collector_without_a_pipeline_for_metrics"),
    "command": ("test_python_that_ignores_its_environment", "test_another_launcher", "test_a_command_that_fails"),
    "started": (
        "test_an_interpreter_without_otelagent",
        "test_nobody_calls_init",
        "test_init_is_called_and_refuses_or_is_switched_off",
        "test_a_process_without_a_name",
        "test_a_name_that_the_application_gives",
        "test_a_name_after_the_program_is_told_as_it_is_and_not_missed",
    ),
    "imports": ("test_a_library_set_up_before_the_agent",),
    "instrumented": (
        "test_a_library_that_nothing_instruments",
        "test_a_library_that_is_switched_off",
        "test_a_version_that_is_not_supported",
    ),
    "provider": ("test_the_application_sets_a_provider_too",),
    "workers": ("test_uwsgi_without_threads", "test_workers_and_a_reloader_have_agents_of_their_own"),
    "traffic": ("test_no_request_reaches_the_server",),
    "spans": ("test_no_span_is_sampled", "test_no_span_is_started"),
    "parent": ("test_a_caller_that_does_not_sample",),
    "exit": (
        "test_the_process_ends_by_os_exit",
        "test_the_process_is_killed",
        "test_a_span_in_a_daemon_thread",
    ),
    "delivery": ("test_what_waits_on_disk_and_what_is_lost", "test_what_is_lost_leads_to_what_fails"),
    "viewer_received": ("test_nothing_has_come_and_then_it_has",),
    "viewer_port": (
        "test_the_standard_port_is_another_programs",
        "test_on_the_standard_ports_nothing_is_to_be_set",
    ),
    "viewer_grpc": ("test_a_viewer_without_grpc", "test_on_the_standard_ports_nothing_is_to_be_set"),
    "viewer_path": ("test_a_wrong_path", "test_the_root_is_no_path"),
    "viewer_content_type": ("test_a_wrong_content_type",),
    "viewer_refused": ("test_what_was_turned_away_is_told", "test_another_protocol_on_the_port_of_http"),
    "viewer_sampled": ("test_log_records_of_traces_that_were_sampled_out",),
    "viewer_clock": ("test_spans_from_the_future",),
    "viewer_store": ("test_a_store_that_cannot_be_written",),
}


def table() -> str:
    """What belongs between the markers."""
    checks = all_checks()
    parts = []
    for needs, title in TITLES.items():
        rows = [
            f"| `{check.id}` | {check.title} | {check.looks_at} | {check.advice} | "
            + "<br>".join(f"`{name}`" for name in SHOWN[check.id])
            + " |"
            for check in checks
            if check.needs == needs
        ]
        head = (
            f"### {title}\n\n| Check | Holds when it passes | Looks at | Advice | Shown by |\n|---|---|---|---|---|\n"
        )
        parts.append(head + "\n".join(rows) + "\n")
    return "\n".join(parts)


def test_every_check_is_in_the_document() -> None:
    text = DOCUMENT.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    inside = text.partition(BEGIN)[2].partition(END)[0]
    assert inside.strip() == table().strip(), "write it anew: python -m tests.doctor.test_document"


def test_every_check_is_shown_by_tests_that_there_are() -> None:
    checks = all_checks()
    assert len({check.id for check in checks}) == len(checks)
    assert {check.id for check in checks} == set(SHOWN)
    files = [*Path(__file__).parent.glob("test_*.py"), *(ROOT / "tests" / "e2e").glob("test_doctor*.py")]
    tests = {
        node.name
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert {name for names in SHOWN.values() for name in names} <= tests


def test_every_check_says_what_to_do() -> None:
    for check in all_checks():
        assert check.title[0].isupper()
        assert check.looks_at
        assert check.advice


if __name__ == "__main__":
    before, _, rest = DOCUMENT.read_text().partition(BEGIN)
    DOCUMENT.write_text(f"{before}{BEGIN}\n\n{table()}\n{END}{rest.partition(END)[2]}")
