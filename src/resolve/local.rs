//! Story files on this machine: a single file, or those that match a glob. Reads none of them.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use crate::config;
use crate::stages::stories::file;

/// Files and folders beyond this number are not checked.
const MANY: usize = 100_000;

/// Which files can be read: why one with a given name cannot, and the supported formats.
pub type Formats = (fn(&str) -> Option<&'static str>, &'static str);

/// The story files that `path`, possibly a glob, refers to, sorted by name. `root`: the folder that relative paths
/// start from.
///
/// An error has the problem and a hint.
pub fn found(path: &Path, root: &Path) -> Result<Vec<PathBuf>, (String, String)> {
    found_of(path, root, (file::refused, file::KNOWN))
}

/// The same for files of other formats.
pub fn found_of(
    path: &Path,
    root: &Path,
    (refused, known): Formats,
) -> Result<Vec<PathBuf>, (String, String)> {
    let shown = path.strip_prefix(root).unwrap_or(path).display().to_string();
    let wrong = |message: String, hint: &str| Err((message, hint.to_string()));
    if path.is_dir() {
        let inside = files_of(path);
        let readable = inside.iter().find(|path| refused(&path.to_string_lossy()).is_none());
        return match readable.and_then(|path| path.extension()) {
            Some(ending) => {
                let glob = format!("{}/*.{}", shown.trim_end_matches('/'), ending.display());
                wrong(format!("`{shown}` is a folder"), &format!("its files are `path = \"{glob}\"`"))
            }
            None => wrong(format!("`{shown}` is a folder without a file that can be read"), known),
        };
    }
    if path.exists() {
        return match refused(&path.to_string_lossy()) {
            Some(why) => wrong(format!("`{shown}` {why}"), known),
            None => Ok(vec![path.to_path_buf()]),
        };
    }
    let is_glob = |part: &Component| part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
    let below = path.strip_prefix(root).ok();
    // Glob characters in the project's own path are taken literally.
    let (mut base, parts) = match below {
        Some(below) => (root.to_path_buf(), below.components().collect::<Vec<_>>()),
        None => (PathBuf::new(), path.components().collect()),
    };
    let Some(first) = parts.iter().position(is_glob) else {
        let hint = format!("relative paths start from the project folder, `{}`", root.display());
        return wrong(format!("no file `{shown}`"), &hint);
    };
    base.extend(&parts[..first]);
    let glob = parts[first..].iter().collect::<PathBuf>().to_string_lossy().into_owned();
    let matcher = match config::matcher(&glob) {
        Ok(matcher) => matcher,
        Err(error) => {
            return wrong(
                format!("`{shown}` is not a valid glob pattern: {}", error.kind()),
                "such as \"stories/*.jsonl\"",
            );
        }
    };
    let mut names = Vec::new();
    walk(&base, &PathBuf::new(), glob.contains("**"), parts.len() - first, &mut HashSet::new(), &mut names);
    names.retain(|name| matcher.is_match(name));
    names.sort();
    if names.is_empty() {
        let hint = match base.is_dir() {
            true => format!("`{}` exists; `**` crosses folders, `*` and `?` do not", base.display()),
            false => format!("there is no folder `{}`", base.display()),
        };
        return wrong(format!("no file matches `{shown}`"), &hint);
    }
    if let Some((name, why)) = names.iter().find_map(|name| Some((name, refused(&name.to_string_lossy())?))) {
        return wrong(format!("`{shown}` means `{}`, which {why}", name.display()), known);
    }
    Ok(names.iter().map(|name| base.join(name)).collect())
}

/// The names of the files below `base` and `within` it, `depth` folders deep, or at any depth.
fn walk(
    base: &Path,
    within: &Path,
    any_depth: bool,
    depth: usize,
    seen: &mut HashSet<PathBuf>,
    names: &mut Vec<PathBuf>,
) {
    let folder = base.join(within);
    // A symbolic link may lead back to a parent folder.
    if !fs_err::canonicalize(&folder).is_ok_and(|real| seen.insert(real)) || names.len() > MANY {
        return;
    }
    for path in files_of(&folder) {
        let Some(name) = path.file_name() else { continue };
        // Hidden files are skipped.
        if name.to_string_lossy().starts_with('.') {
            continue;
        }
        let name = within.join(name);
        if !path.is_dir() {
            names.push(name);
        } else if any_depth || depth > 1 {
            walk(base, &name, any_depth, depth.saturating_sub(1), seen, names);
        }
    }
}

fn files_of(folder: &Path) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_mean_files_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let root = &folder.path().join("a[1]*");
        for name in
            ["s/b.jsonl", "s/a.jsonl", "s/.c.jsonl", "s/deep/d.jsonl", "s/x.csv", "only/n.md", "l[1].csv"]
        {
            fs_err::create_dir_all(root.join(name).parent().unwrap()).unwrap();
            fs_err::write(root.join(name), "").unwrap();
        }
        #[cfg(unix)]
        std::os::unix::fs::symlink(root, root.join("s/deep/up")).unwrap();
        let names = |glob: &str| {
            let found = found(&root.join(glob), root)?;
            Ok(found
                .iter()
                .map(|path| path.strip_prefix(root).unwrap().display().to_string())
                .collect::<Vec<_>>())
        };
        let said = |glob: &str| -> (String, String) { names(glob).unwrap_err() };
        let names = |glob: &str| -> Vec<String> { names(glob).unwrap() };
        assert_eq!(names("s/*.jsonl"), ["s/a.jsonl", "s/b.jsonl"]);
        assert_eq!(names("s/**/*.jsonl"), ["s/a.jsonl", "s/b.jsonl", "s/deep/d.jsonl"]);
        assert_eq!(names("*/*.csv"), ["s/x.csv"]);
        assert_eq!(names("s/{a,x}.*"), ["s/a.jsonl", "s/x.csv"]);
        assert_eq!(names("l[1].csv"), ["l[1].csv"], "a file of that very name");
        assert_eq!(said("s"), ("`s` is a folder".into(), "its files are `path = \"s/*.jsonl\"`".into()));
        assert!(said("only/*").0.contains("means `n.md`, which has an unknown format"));
        assert!(said("s/*.txt").0.contains("no file matches `s/*.txt`"));
        assert!(said("none/*.txt").1.contains("there is no folder"));
        assert!(said("s/z.csv").0.contains("no file `s/z.csv`"));
    }
}
