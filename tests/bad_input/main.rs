//! Bad input: every exported function with every argument spoilt. Each row gives the documented status, a filled error that
//! names the argument, and untouched outputs; no row ends in a panic. A function without rows fails the test.
//!
//! The rows are in the modules, `support` holds what they are made of, and `values` the small inputs that must work.
#![allow(clippy::missing_safety_doc, clippy::undocumented_unsafe_blocks)]

mod data;
mod handles;
mod sampler;
mod scores;
mod support;
mod values;

use support::World;

type Rows = fn(&World);

const TABLE: &[(&str, Rows)] = &[
    ("mnemo_abi_version", handles::abi_version),
    ("mnemo_cancel_create", handles::cancel_create),
    ("mnemo_cancel_release", handles::releases),
    ("mnemo_cancel_request", handles::cancel_request),
    ("mnemo_cancel_reset", handles::cancel_reset),
    ("mnemo_context_create", handles::context_create),
    ("mnemo_context_describe", handles::context_describe),
    ("mnemo_context_options_init", handles::context_options_init),
    ("mnemo_context_release", handles::releases),
    ("mnemo_context_warm_up", handles::context_warm_up),
    ("mnemo_dataset_copy", data::copy),
    ("mnemo_dataset_gather", data::gather),
    ("mnemo_dataset_info", data::info),
    ("mnemo_dataset_info_init", data::info_init),
    ("mnemo_dataset_open", data::open),
    ("mnemo_dataset_options_init", data::options_init),
    ("mnemo_dataset_release", handles::releases),
    ("mnemo_empirical_options_init", scores::empirical_options_init),
    ("mnemo_exec_init", handles::exec_init),
    ("mnemo_memorization", data::memorization),
    ("mnemo_memorization_options_init", data::memorization_options_init),
    ("mnemo_memorization_report_init", data::memorization_report_init),
    ("mnemo_nearest", data::nearest),
    ("mnemo_process_discrete", handles::process_discrete),
    ("mnemo_process_eval", handles::process_eval),
    ("mnemo_process_flow", handles::process_flow),
    ("mnemo_process_release", handles::releases),
    ("mnemo_process_sub_vp", handles::process_sub_vp),
    ("mnemo_process_time_of_sigma", handles::process_time_of_sigma),
    ("mnemo_process_ve_exponential", handles::process_ve_exponential),
    ("mnemo_process_ve_geometric", handles::process_ve_geometric),
    ("mnemo_process_ve_power", handles::process_ve_power),
    ("mnemo_process_vp_linear", handles::process_vp_linear),
    ("mnemo_sample", sampler::sample),
    ("mnemo_sampler_options_init", sampler::options_init),
    ("mnemo_score_custom", scores::custom),
    ("mnemo_score_empirical", scores::empirical),
    ("mnemo_score_eval", scores::eval),
    ("mnemo_score_jvp", scores::jvp),
    ("mnemo_score_ops_init", scores::ops_init),
    ("mnemo_score_outputs_init", scores::outputs_init),
    ("mnemo_score_release", handles::releases),
    ("mnemo_status_name", handles::status_names),
    ("mnemo_version", handles::version),
];

#[test]
fn every_exported_function_has_rows() {
    let symbols: Vec<&str> = include_str!("../abi/symbols.txt").lines().collect();
    let named: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    assert_eq!(named, symbols, "the table and tests/abi/symbols.txt name different functions");
}

#[test]
fn bad_input_is_answered_and_changes_nothing() {
    let w = World::new();
    for (name, rows) in TABLE {
        w.function.set(name);
        let before = w.rows.get();
        rows(&w);
        assert!(w.rows.get() > before, "{name} has no rows");
    }
    let failures = w.failures();
    assert!(failures.is_empty(), "{} of {} rows:\n{}", failures.len(), w.rows.get(), failures.join("\n"));
}
