"""Each row of docs/moving.md has tests that run its glue, or what takes its place."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "moving.md"
# By the first cell of a row: the tests.
TESTS = {
    "env.world_size = lambda: ...": ("beside_stock/situations/glue.py::recipe_of_aws",),
    "env.global_rank = lambda: ...": (
        "launch/test_moving.py::test_glue_for_ranks_under_mpirun_is_as_in_stock",
        "simulate/test_mpirun.py::test_an_image_without_smddp_has_no_ranks_in_torchs_words",
        "job/test_job.py::test_every_process_of_every_launch_mode_finds_its_place",
    ),
    "cluster_environment=env": (
        "beside_stock/situations/glue.py::recipe_of_aws",
        "patches/test_chosen_world.py::test_a_right_world_is_silent_however_it_is_divided",
        "patches/test_environment.py::test_an_environment_in_plugins_comes_first",
    ),
    'process_group_backend="smddp"': (
        "simulate/fake_smddp/test_training.py::test_stock_lightning_fails_at_an_overridden_prepare_data",
    ),
    "import ...torch_smddp": (
        "simulate/test_mpirun.py::test_smddp_can_be_in_the_image_of_any_distribution",
        "smddp/test_policy.py::test_a_missing_library_means_the_native_backend_and_one_loud_line",
    ),
    "SM_NUM_GPUS": (
        "cluster/test_glue.py::test_the_number_of_gpus_is_the_leaders_under_mpirun_and_devices_are_the_launchers",
    ),
    'num_nodes=len(os.environ["SM_HOSTS"])': (
        "beside_stock/situations/platforms.py::wrong_number_of_hosts",
        "beside_stock/situations/platforms.py::wrong_number_of_hosts_beside_an_environment",
        "patches/test_chosen_world.py::test_glue_for_num_nodes_without_an_environment",
        "patches/test_chosen_world.py::test_the_length_of_a_string_as_num_nodes_is_an_error_that_says_so",
    ),
    'num_nodes=len(json.loads(os.environ["SM_HOSTS"]))': (
        "beside_stock/situations/platforms.py::digits_with_glue",
        "patches/test_chosen_world.py::test_glue_for_num_nodes_without_an_environment",
    ),
    'os.environ["NODE_RANK"] = ...': (
        "beside_stock/situations/hosts.py::glue_left_in",
        "job/test_placement.py::test_a_node_rank_of_the_script_s_own_order_is_believed_as_in_stock",
        "distributed/test_wait_for_ranks.py::test_two_hosts_that_claim_one_rank_are_named_on_all_and_nobody_waits",
        "variables/test_variables.py::test_each_row_is_what_happens",
    ),
    'os.environ["MASTER_ADDR"] = hosts[0]': (
        "cluster/test_glue.py::test_the_first_host_for_the_main_address_trains_as_in_stock",
        "cluster/test_glue.py::test_the_first_host_for_the_main_address_is_named_under_torchrun_where_another_one_leads",
        "job/test_placement.py::test_a_main_address_of_the_script_s_own_is_not_the_toolkit_s_mpirun_s",
        "variables/test_variables.py::test_each_row_is_what_happens",
        "job/test_placement.py::test_a_loopback_address_of_an_image_is_not_that_of_rank_zero_on_several_hosts",
    ),
    'os.environ["RANK"] = os.environ["OMPI_COMM_WORLD_RANK"]': (
        "launch/test_moving.py::test_glue_for_ranks_under_mpirun_is_as_in_stock",
        "patches/test_chosen_world.py::test_glue_that_copies_ranks_of_open_mpi_is_accepted",
    ),
    'os.environ["WORLD_SIZE"] = ...': (
        "job/test_placement.py::test_a_world_size_of_the_script_s_own_tells_nothing_as_in_stock",
        "beside_stock/situations/worlds.py::world_size_alone",
    ),
    "plugins=[TorchElasticEnvironment()]": (
        "patches/test_chosen_world.py::test_torchelastics_environment_wins_and_its_world_is_checked",
        "beside_stock/situations/worlds.py::environment_of_the_scripts_choice",
        "launch/test_moving.py::test_glue_for_ranks_under_mpirun_is_as_in_stock",
    ),
    "plugins=[LightningEnvironment()]": (
        "patches/test_chosen_world.py::test_a_world_smaller_than_the_launchers_is_one_line_on_rank_zero",
        "beside_stock/situations/worlds.py::each_host_predicts_its_own",
    ),
    "dist.init_process_group(...)": ("beside_stock/situations/worlds.py::process_group_of_the_scripts_own",),
    "try: import smdistributed": (
        "beside_stock/situations/glue.py::lines_that_are_not_needed",
        "smddp/test_policy.py::test_a_missing_library_means_the_native_backend_and_one_loud_line",
        "smddp/test_policy.py::test_error_raises_with_the_reason_and_the_cause",
    ),
    "if local_rank == 0: download(); barrier()": (
        "beside_stock/situations/glue.py::download_by_the_first_of_each_host",
        "locking/test_once_per_node.py::test_one_of_all_does_the_work_and_all_get_its_value",
        "locking/test_once_per_node.py::test_an_error_is_raised_by_all_with_its_text_and_place",
    ),
    "lr = lr * world_size": (
        "beside_stock/situations/glue.py::lines_that_are_not_needed",
        "learning_rate/test_checkpoints.py::test_a_resumed_training_has_the_rates_of_an_undisturbed_one",
    ),
    ".ckpt": (
        "beside_stock/situations/glue.py::lines_that_are_not_needed",
        "checkpoint/test_latest_checkpoint.py::test_one_that_was_cut_at_any_length_is_skipped_with_a_line_that_names_it",
    ),
    "a SIGTERM handler that saves": (
        "beside_stock/situations/ends.py::terminated_with_a_handler_of_the_users",
        "distributed/test_sigterm.py::test_all_ranks_stop_at_the_same_batch_and_leave_one_checkpoint_to_resume_from",
    ),
    "NCCL_SOCKET_IFNAME=eth0": (
        "beside_stock/situations/glue.py::lines_that_are_not_needed",
        "distributed/test_interface.py::test_an_interface_that_does_not_exist_is_an_error_that_lists_those_that_do",
        "distributed/test_interface.py::test_an_interface_for_another_backend_is_not_looked_at",
    ),
    "NeMo's initialize_sagemaker": (
        "beside_stock/situations/platforms.py::experiment_manager_on_two_processes",
        "smddp/test_strategies.py::test_registering_the_name_again_still_works_for_others",
        "smddp/test_strategies.py::test_a_name_that_others_have_registered_first_stays_theirs",
    ),
}


def _rows() -> list[str]:
    """First code of each row, and the section that is no table."""
    text = PAGE.read_text(encoding="utf-8")
    cells = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    found = [code[1] if (code := re.search(r"`([^`]+)`", cell)) else cell.removeprefix("| ") for cell in cells]
    return [*(row for row in found if row not in ("line", "glue")), *re.findall(r"^## (NeMo.*)$", text, re.MULTILINE)]


def test_each_row_has_tests_and_each_test_a_row() -> None:
    assert _rows() == list(TESTS)


@pytest.mark.parametrize("row", TESTS)
def test_its_tests_are_there(row: str) -> None:
    for test in TESTS[row]:
        path, _, name = test.partition("::")
        tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, test
