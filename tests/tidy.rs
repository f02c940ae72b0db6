//! The rules of ARCHITECTURE.md that the compiler does not check.

use std::path::{Path, PathBuf};

/// A Rust file of the project: its path from the project folder, and its text.
struct File {
    path: String,
    text: String,
}

fn rust_files(folder: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open = vec![root.join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let shown = path.strip_prefix(root).unwrap().display().to_string();
                files.push(File { path: shown, text: std::fs::read_to_string(&path).unwrap() });
            }
        }
    }
    assert!(!files.is_empty(), "no Rust file in {folder}");
    files
}

/// Fails with the places where `broken` finds something.
fn hold(rule: &str, files: &[File], broken: impl Fn(&File, &str) -> bool) {
    let mut places = Vec::new();
    for file in files {
        for (number, line) in file.text.lines().enumerate() {
            if broken(file, line) {
                places.push(format!("{}:{}: {line}", file.path, number + 1));
            }
        }
    }
    assert!(places.is_empty(), "{rule}:\n{}", places.join("\n"));
}

fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["src", "tests", "examples"] {
        for file in rust_files(folder) {
            assert!(file.text.starts_with("//! "), "{} does not begin with `//! `", file.path);
        }
    }
}

#[test]
fn files_have_one_subject() {
    for file in rust_files("src") {
        let lines = file.text.lines().count();
        assert!(lines <= 500, "{} has {lines} lines: two subjects?", file.path);
    }
}

#[test]
fn libtorch_stays_under_lm_and_stages() {
    let files = rust_files("src");
    let allowed = |f: &File| f.path.starts_with("src/lm/") || f.path.starts_with("src/stages/");
    let names_tch =
        |line: &str| code(line).split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "tch");
    hold("`tch` outside src/lm and src/stages", &files, |f, line| !allowed(f) && names_tch(line));
}

#[test]
fn imports_point_one_way() {
    let files = rust_files("src");
    let inside = |f: &File, part: &str| f.path.starts_with(&format!("src/{part}"));
    let imports = |line: &str, part: &str| code(line).contains(&format!("crate::{part}"));
    hold("lm imports something of ours", &files, |f, line| {
        inside(f, "lm/") && code(line).contains("crate::") && !imports(line, "lm")
    });
    for part in ["config", "plan", "resolve", "execute", "cli", "results", "progress"] {
        hold(&format!("stages import {part}"), &files, |f, line| inside(f, "stages/") && imports(line, part));
    }
    for part in ["plan", "resolve", "execute", "store", "results", "progress"] {
        hold(&format!("config imports {part}"), &files, |f, line| {
            inside(f, "config/") && imports(line, part)
        });
    }
    for part in ["store", "execute", "results", "progress"] {
        hold(&format!("plan imports {part}"), &files, |f, line| inside(f, "plan/") && imports(line, part));
    }
    for part in ["resolve", "execute", "results", "progress", "cli"] {
        hold(&format!("explain imports {part}"), &files, |f, line| {
            inside(f, "explain/") && imports(line, part)
        });
    }
    for part in ["stages", "plan", "store", "config", "resolve"] {
        hold(&format!("report imports {part}"), &files, |f, line| {
            inside(f, "report/") && imports(line, part)
        });
    }
}

#[test]
fn the_decoder_knows_no_family() {
    let shared = [
        "decoder.rs",
        "assemble.rs",
        "block.rs",
        "mixer.rs",
        "delta_net.rs",
        "gated_delta.rs",
        "attention.rs",
        "rope.rs",
        "norm.rs",
        "mlp.rs",
        "experts.rs",
        "generate.rs",
        "hook.rs",
    ];
    let files = rust_files("src/lm");
    let families =
        ["llama", "mistral", "mixtral", "qwen", "gemma", "phi", "olmo", "smollm", "granite", "neox", "gpt"];
    hold("a family's name in shared code", &files, |f, line| {
        let name = f.path.rsplit('/').next().unwrap_or_default();
        // `Llama3` names a way of scaling rope, which several families use.
        let code = code(line).to_lowercase().replace("llama3", "");
        shared.contains(&name) && families.iter().any(|family| code.contains(family))
    });
}

#[test]
fn nothing_is_left_unfinished() {
    let mut files = rust_files("src");
    files.extend(rust_files("examples"));
    for mark in ["todo!(", "unimplemented!(", "dbg!("] {
        hold(&format!("`{mark}`"), &files, |_, line| code(line).contains(mark));
    }
    // fs_err has no types of its own for these.
    let std_fs = |line: &str| code(line).replace("std::fs::Metadata", "").replace("std::fs::Permissions", "");
    hold("std::fs instead of fs_err", &files, |_, line| std_fs(line).contains("std::fs"));
}

/// Whether an SPDX expression can be met with `allowed` licences alone.
fn is_met(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.trim();
    // The loosest word first, outside of brackets.
    for (word, all) in [(" OR ", false), ("/", false), (" AND ", true)] {
        let mut parts = vec![String::new()];
        let mut depth = 0;
        let mut rest = expression;
        while let Some(c) = rest.chars().next() {
            depth += i32::from(c == '(') - i32::from(c == ')');
            if depth == 0 && rest.starts_with(word) {
                parts.push(String::new());
                rest = &rest[word.len()..];
                continue;
            }
            parts.last_mut().unwrap().push(c);
            rest = &rest[c.len_utf8()..];
        }
        if parts.len() > 1 {
            let mut met = parts.iter().map(|part| is_met(part, allowed));
            return if all { met.all(|met| met) } else { met.any(|met| met) };
        }
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_met(inner, allowed),
        None => allowed.contains(&expression),
    }
}

#[test]
fn licences_of_all_dependencies_are_those_of_deny_toml() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let deny = std::fs::read_to_string(root.join("deny.toml")).unwrap();
    let list = deny.split_once("allow = [").unwrap().1.split_once(']').unwrap().0;
    let allowed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
    assert!(allowed.contains(&"MIT") && !is_met("GPL-3.0 OR (MIT AND GPL-3.0)", &allowed));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut metadata = std::process::Command::new(cargo);
    metadata.args(["metadata", "--format-version", "1", "--locked", "--offline"]).current_dir(root);
    // Of the systems that are built for; those of others are not here.
    metadata.args(["--filter-platform", env!("EMOFLOW_TARGET")]);
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    for package in packages {
        let licence = package["license"].as_str().unwrap_or("none");
        assert!(is_met(licence, &allowed), "{} has the licence {licence}", package["name"]);
    }
}

#[test]
fn the_version_is_the_same_wherever_it_stands() {
    let read =
        |name: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert!(read("CITATION.cff").lines().any(|line| line == format!("version: {version}")));
    let changes = read("CHANGELOG.md");
    let newest = changes.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    assert_eq!(newest.split(',').next(), Some(version));
    // The libtorch of the build, of the script that fetches it and of the wheel.
    let torch = env!("EMOFLOW_LIBTORCH_VERSION");
    assert!(read("scripts/setup-libtorch.sh").contains(&format!("\nversion={torch}\n")));
    let series = torch.rsplit_once('.').unwrap().0;
    assert!(read("pyproject.toml").contains(&format!("\"torch=={series}.*\"")));
}
