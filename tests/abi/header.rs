//! `include/mnemo.h` from the comments and signatures of `src/capi`: cbindgen runs once per file, and the results are
//! stitched in reading order, so that each noun has its constants, types and functions together.

use std::path::Path;

/// The sections: file, title.
const SECTIONS: [(&str, &str); 9] = [
    ("status", "Status and errors"),
    ("tensor", "Tensors"),
    ("exec", "One call: stream, seed, cancel, progress"),
    ("context", "Contexts: where computing happens"),
    ("process", "Forward processes"),
    ("dataset", "Data sets: the training rows"),
    ("score", "Scores: models of grad log p_t(x)"),
    ("sampler", "Sampling: integrating the reverse process"),
    ("memorization", "Memorization: what of the generated is copied"),
];

const PREFACE: &str = include_str!("preface.h");

/// Macros are beyond cbindgen.
const TENSOR_MACRO: &str = include_str!("tensor.h");

/// The header's text.
pub fn generate(root: &Path) -> String {
    let mut text = PREFACE.to_owned();
    for (file, title) in SECTIONS {
        let rule = "=".repeat(116);
        text += &format!("\n/* {rule}\n * {title}\n * {rule} */\n\n");
        text += &section(&root.join(format!("src/capi/{file}.rs")));
        if file == "tensor" {
            text += TENSOR_MACRO;
        }
    }
    text += "\n#ifdef __cplusplus\n}\n#endif\n\n#endif /* MNEMO_H */\n";
    // Types go by their typedefs …
    let by_typedef = |line: &str| {
        let definition = line.starts_with("typedef struct") || line.starts_with(" *") || line.starts_with("/*");
        if definition { line.to_owned() } else { line.replace("struct mnemo_", "mnemo_") }
    };
    let text = text.lines().map(by_typedef).collect::<Vec<_>>().join("\n") + "\n";
    // … but one: a C function and a C typedef cannot share a name.
    text.replace("typedef struct mnemo_dataset_info {", "struct mnemo_dataset_info {")
        .replace("} mnemo_dataset_info;", "};")
        .replace("mnemo_dataset_info *info", "struct mnemo_dataset_info *info")
}

fn section(source: &Path) -> String {
    let config = cbindgen::Config {
        language: cbindgen::Language::C,
        no_includes: true,
        style: cbindgen::Style::Both,
        cpp_compat: false,
        documentation: true,
        documentation_style: cbindgen::DocumentationStyle::Doxy,
        usize_is_size_t: true,
        line_length: 120,
        tab_width: 2,
        // Types that no function of their own file mentions.
        export: cbindgen::ExportConfig {
            include: ["mnemo_error", "mnemo_tensor"].map(String::from).to_vec(),
            ..Default::default()
        },
        function: cbindgen::FunctionConfig { sort_by: Some(cbindgen::SortKey::None), ..Default::default() },
        ..Default::default()
    };
    let mut bytes = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(source)
        .generate()
        .unwrap_or_else(|e| panic!("{}: {e}", source.display()))
        .write(&mut bytes);
    String::from_utf8(bytes).expect("cbindgen writes UTF-8").trim().to_owned() + "\n"
}
