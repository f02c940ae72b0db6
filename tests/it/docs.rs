//! The documents: every page is in the book, every link leads somewhere, every command is one, and the tutorial runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use emoflow::config::Experiment;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Pages below `docs/`, as paths from there.
fn pages() -> BTreeSet<String> {
    let mut open = vec![root().join("docs")];
    let mut found = BTreeSet::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension() {
                None if path.is_dir() => open.push(path),
                Some(ending) if ending == "md" => {
                    found.insert(path.strip_prefix(root().join("docs")).unwrap().display().to_string());
                }
                _ => {}
            }
        }
    }
    found
}

/// Every document, as a path from the project's folder, with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let top =
        ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(PathBuf::from);
    let all = top.into_iter().chain(pages().into_iter().map(|page| Path::new("docs").join(page)));
    all.map(|path| (path.clone(), std::fs::read_to_string(root().join(path)).unwrap())).collect()
}

/// The lines of a text with what is said of their fence; `None`: outside one.
fn lines(text: &str) -> Vec<(Option<&str>, &str)> {
    let mut fence: Option<&str> = None;
    let mut all = Vec::new();
    for line in text.lines() {
        match (line.trim_start().strip_prefix("```"), fence) {
            (Some(said), None) => fence = Some(said.trim()),
            (Some(_), Some(_)) => fence = None,
            (None, _) => all.push((fence, line)),
        }
    }
    all
}

/// The contents of the fences of a kind.
fn fences(text: &str, kind: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(said) => {
                inside = !inside && said == kind;
                if inside {
                    all.push(String::new());
                }
            }
            None if inside => *all.last_mut().unwrap() += &format!("{line}\n"),
            None => {}
        }
    }
    all
}

/// The anchors of a page, as GitHub and mdBook make them of its headings.
fn anchors(text: &str) -> Vec<String> {
    let heads = lines(text).into_iter().filter(|(fence, line)| fence.is_none() && line.starts_with('#'));
    let slug = |head: &str| {
        let kept = head.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    heads.map(|(_, head)| slug(head)).collect()
}

/// What the links of a text lead to.
fn links(text: &str) -> Vec<String> {
    let plain: String = lines(text)
        .into_iter()
        .filter(|(fence, _)| fence.is_none())
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    // Nothing in code is a link.
    let plain: String = plain.split('`').step_by(2).collect();
    let mut found = Vec::new();
    let mut rest = plain.as_str();
    while let Some(at) = rest.find("](") {
        rest = &rest[at + 2..];
        found.extend(rest.find(')').map(|end| rest[..end].to_string()));
    }
    found
}

#[test]
fn every_page_is_in_the_book() {
    let summary = std::fs::read_to_string(root().join("docs/SUMMARY.md")).unwrap();
    let listed = links(&summary);
    let once: BTreeSet<String> = listed.iter().cloned().collect();
    assert_eq!(listed.len(), once.len(), "a page is there twice");
    let mut pages = pages();
    pages.remove("SUMMARY.md");
    assert_eq!(once, pages);
}

#[test]
fn every_link_leads_somewhere() {
    let mut broken = Vec::new();
    for (path, text) in documents() {
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(f, a)| (f, Some(a)));
            let target = match file {
                "" => root().join(&path),
                _ => root().join(&path).parent().unwrap().join(file),
            };
            let there = match anchor {
                None => target.exists(),
                Some(anchor) => std::fs::read_to_string(&target)
                    .is_ok_and(|text| anchors(&text).iter().any(|a| a == anchor)),
            };
            if !there {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The commands of this program in a text for a shell, each as its words.
fn commands(text: &str) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for line in text.replace("\\\n", " ").lines() {
        let mut words: Vec<String> = vec![String::new()];
        let mut quote: Option<char> = None;
        for c in line.chars() {
            match (c, quote) {
                ('#', None) if words.last().is_some_and(String::is_empty) => break,
                ('\'' | '"', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (' ', None) => words.push(String::new()),
                ('|' | ';' | '&' | '>' | '<' | '(' | ')', None) => {
                    words.extend(["|".to_string(), String::new()])
                }
                (c, _) => words.last_mut().unwrap().push(c),
            }
        }
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        for command in words.split(|word| word == "|") {
            let begin = command.iter().position(|word| word.rsplit('/').next() == Some("emoflow"));
            let leads =
                |word: &String| ["uvx", "pip", "install", "tool", "binstall"].contains(&word.as_str());
            if let Some(begin) = begin.filter(|begin| !command[..*begin].iter().any(leads)) {
                all.push([&["emoflow".to_string()], &command[begin + 1..]].concat());
            }
        }
    }
    all
}

#[test]
fn every_command_is_one() {
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (path, text) in documents() {
        for words in fences(&text, "sh").iter().flat_map(|fence| commands(fence)) {
            count += 1;
            if let Err(why) = emoflow::parses(&words) {
                wrong.push(format!("{}: {}: {why}", path.display(), words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 40, "{count} commands: are they found?");
}

#[test]
fn every_whole_experiment_in_the_documents_is_right() {
    let mut count = 0;
    for (path, text) in documents() {
        for experiment in fences(&text, "toml experiment") {
            count += 1;
            let read = Experiment::parse(&path, root(), &experiment);
            assert!(read.is_ok(), "{}: {}", path.display(), read.unwrap_err());
        }
    }
    assert!(count >= 3);
}

/// Gives the commands of the tutorial one after the other, as they stand there, in a folder of its own. `model`: what stands in the
/// place of the hub's. Returns the folder.
fn tutorial(model: &Path) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("emoflow.toml"), "").unwrap();
    let file = place.path().join("experiment.toml");
    let text = std::fs::read_to_string(root().join("docs/tutorial.md")).unwrap();
    let mut parts = text.split("```");
    parts.next();
    let mut count = 0;
    while let Some(part) = parts.next() {
        let (kind, body) = part.split_once('\n').unwrap();
        match kind {
            "sh" => {
                for words in commands(body) {
                    let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
                    command.args(&words[1..]).current_dir(place.path()).env_remove("LD_LIBRARY_PATH");
                    let output = command.output().unwrap();
                    // Two runs differ.
                    let expected = i32::from(words[1] == "diff");
                    let said = String::from_utf8_lossy(&output.stderr);
                    assert_eq!(output.status.code(), Some(expected), "{}: {said}", words.join(" "));
                    count += 1;
                    if words[1] == "init" {
                        let written = std::fs::read_to_string(&file).unwrap();
                        let local = format!("path = \"{}\"", model.display());
                        let hub = "repo = \"HuggingFaceTB/SmolLM2-135M-Instruct\"";
                        assert!(written.contains(hub));
                        std::fs::write(&file, written.replace(hub, &local)).unwrap();
                    }
                }
            }
            "toml append" => {
                let written = std::fs::read_to_string(&file).unwrap();
                std::fs::write(&file, format!("{written}\n{body}")).unwrap();
            }
            _ => {}
        }
        parts.next();
    }
    assert!(count >= 10, "{count} commands");
    let page = crate::page(&place.path().join("results/thirty/report.html"));
    assert!(page.contains("before the first run"), "the criteria are on the first page");
    place
}

#[test]
fn the_tutorial_runs_as_it_stands() {
    tutorial(&root().join("models/demo"));
}

mod real {
    use super::*;

    #[test]
    #[ignore = "needs the models of `make real`"]
    fn the_tutorial_finds_what_it_says() {
        let model = root().join("models/real/SmolLM2-135M-Instruct.Q4_1.gguf");
        if !model.is_file() || std::env::var("EMOFLOW_REAL_QUICK").is_ok_and(|quick| !quick.is_empty()) {
            println!("SKIPPED: {} is not there, or QUICK is set", model.display());
            return;
        }
        let place = tutorial(&model);
        let claim = |run: &str, name: &str| -> f64 {
            let file = place.path().join("results").join(run).join("tables/claims.csv");
            let mut reader = csv::Reader::from_path(file).unwrap();
            let heads = reader.headers().unwrap().clone();
            let column = |name: &str| heads.iter().position(|head| head == name).unwrap();
            let (of, value) = ([column("analysis"), column("claim")], column("estimate"));
            let rows = reader.records().map(Result::unwrap);
            let mut found = rows.filter(|row| format!("{}/{}", &row[of[0]], &row[of[1]]) == name);
            found.next().unwrap_or_else(|| panic!("no claim {name}"))[value].parse().unwrap()
        };
        for (run, name, says, within) in [
            ("experiment", "words/own word ahead of topics", 97.0, 1.0),
            ("experiment", "causes/own word more than others at 1 × vector", 0.33, 0.01),
            ("experiment", "causes/own word at 1 × vector", 0.32, 0.01),
            ("thirty", "words/own word ahead of topics", 97.0, 1.0),
            ("thirty", "causes/own word more than others at 1 × vector", 0.46, 0.01),
        ] {
            let found = claim(run, name);
            assert!((found - says).abs() <= within, "{run}: {name}: {found}, and the tutorial says {says}");
        }
    }
}
