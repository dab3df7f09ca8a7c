"""Situations that differ today, and why. Each has to: one that does not any more fails until its line is gone."""

from __future__ import annotations

_FOLDER = "checkpoints go to the job's folder unasked: patches/checkpoints.py, setup_in_checkpoint_folder"
_LAST = 'RESUME=1 passes ckpt_path="last" on: patches/checkpoints.py, _select_ckpt_path'
_FIRST = "the process's first fit takes the newest checkpoint of any: patches/checkpoints.py, _fits"
_LINES = "rank 0 alone reads callback_metrics, each value a float: metrics.py, _MetricLines._print"
_READS = "reductions are sent when somebody reads: patches/results.py, metrics_reduced"
_INFERENCE = "the result of a reduction is set on an inference tensor: smddp/coalescing.py, reduce_all"
_VIEW = "gradient_as_bucket_view=True is smddp's default: smddp/strategies.py"
_PICKLE = "a closure hangs on the user's object: locking/lightning.py, guarded"
_CLASS = "MetricLines is a class that cannot be pickled, and hangs on trainer.callbacks: metrics.py, callback"
_PATHS = "paths are compared, not contents: checkpoint/resume.py, _in_words"
_SENT = "nothing sends a file to the other hosts yet: patches/same_checkpoint.py"
_APART = "devices=1, num_nodes=1 is taken for nothing said: patches/environment.py, _set_num_nodes; environment.py"
_CHILD = "a rank's child inherits its variables, and is taken for a rank: patches/environment.py, _environment_of"
_FORKED = "a process of ddp_fork waits for a sibling that is none: heartbeat.py, _siblings"
_LEFT = "WORLD_SIZE stays set, which stock's environment removes: environment.py, teardown"

# By "name-arm".
KNOWN: dict[str, str] = {
    "batch_size_search_then_fit-metrics": _FOLDER,
    "batch_size_search_then_fit-plugin": _FOLDER,
    "best_in_validate_test_and_predict-metrics": _FOLDER,
    "best_in_validate_test_and_predict-plugin": _FOLDER,
    "best_on_two_processes-metrics": _FOLDER,
    "best_on_two_processes-plugin": _FOLDER,
    "command_line-metrics": _FOLDER,
    "command_line-plugin": _FOLDER,
    "command_line_again_in_the_same_folder-metrics": _FOLDER,
    "command_line_again_in_the_same_folder-plugin": _FOLDER,
    "default_folder-metrics": _FOLDER,
    "default_folder-plugin": _FOLDER,
    "default_folder_as_the_script_finds_it-metrics": _FOLDER,
    "default_folder_as_the_script_finds_it-plugin": _FOLDER,
    "folds-metrics": _FOLDER,
    "folds-plugin": _FOLDER,
    "last_in_a_new_container-metrics": _FOLDER,
    "last_in_a_new_container-plugin": _FOLDER,
    "last_in_the_same_container-metrics": _FOLDER,
    "last_in_the_same_container-plugin": _FOLDER,
    "learning_rate_search_then_fit-metrics": _FOLDER,
    "learning_rate_search_then_fit-plugin": _FOLDER,
    "logger_below_the_jobs_folder-metrics": _FOLDER,
    "logger_below_the_jobs_folder-plugin": _FOLDER,
    "logs_and_checkpoints_of_two_hosts-metrics": _FOLDER,
    "logs_and_checkpoints_of_two_hosts-plugin": _FOLDER,
    "no_such_checkpoint-metrics": _FOLDER,
    "no_such_checkpoint-plugin": _FOLDER,
    "nothing_said_in_a_new_container-metrics": _FOLDER,
    "nothing_said_in_a_new_container-plugin": _FOLDER,
    "nothing_said_in_the_same_container-metrics": _FOLDER,
    "nothing_said_in_the_same_container-plugin": _FOLDER,
    "pickled_and_copied_in_hooks-metrics": _CLASS,
    "pickled_and_copied_in_hooks-plugin": _FOLDER,
    "pretraining_then_finetuning-metrics": _FOLDER,
    "pretraining_then_finetuning-plugin": _FOLDER,
    "rate_search_before_each_start-plugin": _FOLDER,
    "same_trainer_fits_twice-metrics": _FOLDER,
    "same_trainer_fits_twice-plugin": _FOLDER,
    "smoke_test_before_each_start-plugin": _FOLDER,
    "smoke_test_then_fit-metrics": _FOLDER,
    "smoke_test_then_fit-plugin": _FOLDER,
    "trials_at_once-metrics": _FOLDER,
    "trials_at_once-plugin": _FOLDER,
    "trials_one_after_the_other-metrics": _FOLDER,
    "trials_one_after_the_other-plugin": _FOLDER,
    "two_model_checkpoints-metrics": _FOLDER,
    "two_model_checkpoints-plugin": _FOLDER,
    "versions_of_the_default_logger-metrics": _FOLDER,
    "versions_of_the_default_logger-plugin": _FOLDER,
    "warnings_given-metrics": _FOLDER,
    "warnings_given-plugin": _FOLDER,
    "warnings_given_on_two_processes-metrics": _FOLDER,
    "warnings_given_on_two_processes-plugin": _FOLDER,
    "without_logger-metrics": _FOLDER,
    "without_logger-plugin": _FOLDER,
    "last_in_a_new_container-resume": _LAST,
    "last_in_the_same_container-resume": _LAST,
    "rate_search_before_each_start-resume": _FIRST,
    "smoke_test_before_each_start-resume": _FIRST,
    "trials_one_after_the_other-resume": _FIRST,
    "metric_that_is_no_number-metrics": _LINES,
    "sum_and_a_gathering_at_epoch_end-metrics": _LINES,
    "sum_and_a_reduction_at_epoch_end-metrics": _LINES,
    "sum_and_a_reduction_at_epoch_end_with_smddp-metrics": _LINES,
    "rank_zero_reads_in_a_manual_step_with_smddp-metrics": _READS,
    "rank_zero_reads_in_a_manual_step_with_smddp-plugin": _READS,
    "rank_zero_reads_in_a_step_with_smddp-metrics": _READS,
    "rank_zero_reads_in_a_step_with_smddp-plugin": _READS,
    "rank_zero_reads_logged_metrics_with_smddp-metrics": _READS,
    "rank_zero_reads_logged_metrics_with_smddp-plugin": _READS,
    "rank_zero_reads_the_progress_bars_metrics_with_smddp-metrics": _READS,
    "rank_zero_reads_the_progress_bars_metrics_with_smddp-plugin": _READS,
    "logged_within_inference_mode_with_smddp-metrics": _INFERENCE,
    "logged_within_inference_mode_with_smddp-plugin": _INFERENCE,
    "kept_gradients_with_smddp-metrics": _VIEW,
    "kept_gradients_with_smddp-plugin": _VIEW,
    "data_prepared_by_a_pool-metrics": _PICKLE,
    "data_prepared_by_a_pool-plugin": _PICKLE,
    "data_prepared_by_a_pool_in_one_process-metrics": _CLASS,
    "own_copies_of_a_checkpoint-metrics": _PATHS,
    "own_copies_of_a_checkpoint-plugin": _PATHS,
    "best_on_own_disks-plugin": _SENT,
    "fabrics_file_on_own_disks-plugin": _SENT,
    "last_on_own_disks-plugin": _SENT,
    "rate_search_on_own_disks-plugin": _SENT,
    "one_device_test_after_a_fit-off": _APART,
    "one_device_test_after_a_fit-plugin": _APART,
    "one_device_test_after_a_fit_on_two_hosts-off": _APART,
    "one_device_test_after_a_fit_on_two_hosts-plugin": _APART,
    "child_that_evaluates-plugin": _CHILD,
    "forked_processes-plugin": _FORKED,
    "environment_before_and_after_on_two_hosts-metrics": _LEFT,
    "environment_before_and_after_on_two_hosts-off": _LEFT,
    "environment_before_and_after_on_two_hosts-plugin": _LEFT,
}
