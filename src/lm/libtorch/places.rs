//! Where libtorch is searched for, in which order, and what was found. Loads nothing.
//!
//! 1. the environment that the program is installed in (`pip install emoflow`, `uv tool install emoflow`);
//! 2. `VIRTUAL_ENV`;
//! 3. `CONDA_PREFIX`;
//! 4. the libtorch downloaded by `emoflow setup`;
//! 5. the folder that the program was built with.
//!
//! A folder in `LD_LIBRARY_PATH` takes precedence over all of them, as for the dynamic linker. A torch of another
//! version is skipped, except one in `LD_LIBRARY_PATH`, which is an explicit request.

use super::{stated, version};
use anyhow::{Result, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The libtorch version that this program requires.
pub const WANTED: &str = env!("EMOFLOW_LIBTORCH_VERSION");

/// The library file that identifies a libtorch.
const LIBRARY: &str = if cfg!(target_os = "macos") { "libtorch_cpu.dylib" } else { "libtorch_cpu.so" };

/// A usable libtorch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The folder of its libraries.
    pub lib: PathBuf,
    /// Why it was chosen, in words.
    pub why: String,
}

/// The environment of the search.
pub struct Around<'a> {
    /// Path of this program's executable.
    pub program: Option<PathBuf>,
    /// The environment's variables.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
}

/// One search location, with the library folders found there.
struct Place {
    what: String,
    libs: Vec<PathBuf>,
}

/// Searches the environment of this process.
///
/// # Errors
/// None of the right version was found: the message lists where it was searched for, what was found, and what to do.
pub fn find() -> Result<Found> {
    let program = std::env::current_exe().ok();
    Around { program, variable: &|name| std::env::var_os(name) }.find()
}

/// Where `emoflow setup` puts a libtorch; `None`: the user has no home folder.
pub fn fetched(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let data = absolute("XDG_DATA_HOME").or_else(|| Some(absolute("HOME")?.join(".local/share")));
    Some(data?.join("emoflow").join(format!("libtorch-{WANTED}")))
}

impl Around<'_> {
    /// The first libtorch of the right version.
    ///
    /// # Errors
    /// As for [`find`].
    pub fn find(&self) -> Result<Found> {
        if let Some(lib) = self.in_library_path() {
            super::check(&lib)?;
            return Ok(Found { lib, why: "LD_LIBRARY_PATH names it".into() });
        }
        let mut others = Vec::new();
        let mut nothing = Vec::new();
        for Place { what, libs } in self.places() {
            let root = |lib: &Path| lib.parent().unwrap_or(lib).to_path_buf();
            if let Some(lib) = libs.iter().find(|lib| version(&root(lib)).as_deref() == Some(WANTED)) {
                let passed = match others.is_empty() {
                    true => String::new(),
                    false => format!("; skipped: {}", others.join("; ")),
                };
                return Ok(Found { lib: lib.clone(), why: format!("{what}{passed}") });
            }
            match libs.first().map(|lib| stated(&root(lib)).unwrap_or_else(|| "of an unknown version".into()))
            {
                Some(other) => others.push(format!("torch {other} in {what}")),
                None => nothing.push(what),
            }
        }
        let there = match others.is_empty() {
            true => " It was".to_string(),
            false => format!(" There is {}, which cannot be used. It was also", others.join("; ")),
        };
        bail!(
            "no libtorch {WANTED} was found.{there} searched for in {}. To install it: {}",
            nothing.join("; "),
            self.remedy()
        )
    }

    /// In the order given at the top of this module.
    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        if let Some(prefix) = self.environment() {
            let what = format!("the environment that the program is installed in, {}", prefix.display());
            places.push(Place { what, libs: in_environment(&prefix) });
        }
        for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
            let prefix = (self.variable)(name).filter(|value| !value.is_empty()).map(PathBuf::from);
            let what = match &prefix {
                Some(prefix) => format!("{name}, {}", prefix.display()),
                None => format!("{name}, which is not set"),
            };
            places.push(Place { what, libs: prefix.map_or_else(Vec::new, |prefix| in_environment(&prefix)) });
        }
        if let Some(folder) = fetched(self.variable) {
            let what = format!("the one from `emoflow setup`, {}", folder.display());
            places.push(Place { what, libs: real(folder.join("torch").join("lib")) });
        }
        let built = PathBuf::from(env!("EMOFLOW_LIBTORCH"));
        // For a program built on another machine this folder does not exist.
        if built.is_dir() {
            let what = format!("the folder that the program was built with, {}", built.display());
            places.push(Place { what, libs: real(built) });
        }
        places
    }

    /// The environment that the program is installed in, if the program is its `bin/emoflow`.
    fn environment(&self) -> Option<PathBuf> {
        let program = self.program.as_ref()?;
        let program = fs_err::canonicalize(program).unwrap_or_else(|_| program.clone());
        let bin = program.parent()?;
        (bin.file_name()? == "bin").then(|| bin.parent().map(Path::to_path_buf))?
    }

    fn in_library_path(&self) -> Option<PathBuf> {
        let path = (self.variable)("LD_LIBRARY_PATH")?;
        std::env::split_paths(&path).find(|folder| folder.is_absolute() && folder.join(LIBRARY).is_file())
    }

    /// The command that installs it.
    fn remedy(&self) -> String {
        let python = self.environment().map(|prefix| prefix.join("bin").join("python"));
        match python.filter(|python| python.is_file()) {
            Some(python) => {
                format!("{} -m pip install 'torch=={WANTED}', or emoflow setup", python.display())
            }
            None => "emoflow setup (emoflow setup --cpu where there is no GPU)".into(),
        }
    }
}

/// The folders of torch's libraries in a Python environment.
fn in_environment(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for lib in ["lib", "lib64"] {
        let Ok(entries) = fs_err::read_dir(prefix.join(lib)) else { continue };
        let pythons = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let named =
            |path: &PathBuf| path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("python3"));
        let mut pythons: Vec<PathBuf> = pythons.filter(named).collect();
        pythons.sort();
        for python in pythons {
            for packages in ["site-packages", "dist-packages"] {
                found.extend(real(python.join(packages).join("torch").join("lib")));
            }
        }
    }
    found
}

/// The folder, if it contains libtorch.
fn real(lib: PathBuf) -> Vec<PathBuf> {
    if lib.join(LIBRARY).is_file() { vec![lib] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    /// Creates a fake torch of `version` in `root/torch`.
    fn torch(root: &Path, version: &str) -> PathBuf {
        let lib = root.join("torch").join("lib");
        fs_err::create_dir_all(&lib).unwrap();
        fs_err::write(lib.join(LIBRARY), "").unwrap();
        fs_err::write(root.join("torch/version.py"), format!("__version__ = '{version}'\n")).unwrap();
        lib
    }

    #[test]
    fn places_are_looked_at_in_their_order_and_other_versions_passed_over() {
        let place = tempfile::tempdir().unwrap();
        let root = fs_err::canonicalize(place.path()).unwrap();
        let env = |name: &str| root.join(name);
        let packages = |name: &str| env(name).join("lib/python3.12/site-packages");
        fs_err::create_dir_all(env("own/bin")).unwrap();
        fs_err::write(env("own/bin/emoflow"), "").unwrap();
        let mut variables: HashMap<&str, PathBuf> = HashMap::from([
            ("VIRTUAL_ENV", env("venv")),
            ("CONDA_PREFIX", env("conda")),
            ("XDG_DATA_HOME", env("data")),
        ]);
        let find = |variables: &HashMap<&str, PathBuf>| {
            let variable = |name: &str| variables.get(name).map(|path| path.clone().into_os_string());
            Around { program: Some(env("own/bin/emoflow")), variable: &variable }.find()
        };
        // From the last location to the first: each new one takes precedence over the previous ones.
        let built = find(&variables).unwrap();
        assert_eq!(built.lib, Path::new(env!("EMOFLOW_LIBTORCH")));
        assert!(built.why.starts_with("the folder that the program was built with"), "{}", built.why);
        let folder = env("data/emoflow").join(format!("libtorch-{WANTED}"));
        for (root, word) in [
            (folder, "emoflow setup"),
            (packages("conda"), "CONDA_PREFIX"),
            (packages("venv"), "VIRTUAL_ENV"),
            (packages("own"), "installed in"),
        ] {
            let lib = torch(&root, &format!("{WANTED}+cpu"));
            let found = find(&variables).unwrap();
            assert_eq!(found.lib, lib);
            assert!(found.why.contains(word), "{} does not say {word}", found.why);
        }
        torch(&packages("own"), "2.10.0+cu128");
        let found = find(&variables).unwrap();
        assert_eq!(found.lib, packages("venv").join("torch/lib"));
        assert!(found.why.contains("skipped: torch 2.10.0+cu128 in the environment"), "{}", found.why);
        // An explicitly requested one is not skipped.
        variables.insert("LD_LIBRARY_PATH", packages("own").join("torch/lib"));
        assert!(find(&variables).unwrap_err().to_string().contains("is 2.10.0; this program needs"));
        variables.insert("LD_LIBRARY_PATH", packages("venv").join("torch/lib"));
        assert_eq!(find(&variables).unwrap().why, "LD_LIBRARY_PATH names it");
    }

    #[test]
    fn the_remedy_is_a_command() {
        let place = tempfile::tempdir().unwrap();
        let root = fs_err::canonicalize(place.path()).unwrap();
        fs_err::create_dir_all(root.join("bin")).unwrap();
        let around = Around { program: Some(root.join("bin/emoflow")), variable: &|_| None };
        assert!(around.remedy().starts_with("emoflow setup"));
        fs_err::write(root.join("bin/python"), "").unwrap();
        let python = root.join("bin/python").display().to_string();
        assert_eq!(around.remedy(), format!("{python} -m pip install 'torch=={WANTED}', or emoflow setup"));
    }
}
