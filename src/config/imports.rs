//! `[vectors]`: how vectors are computed, and `[vectors.<name>]`: vectors imported from files. Opens no file.

use std::path::PathBuf;
use std::rc::Rc;

use serde::Serialize;

use super::Span;
use crate::exchange::read::{Files, KNOWN, refused};
use crate::lm::Layer;
use crate::params::{
    Form, Key, Node, Params as _, Problem, Read, Reader, Type, Value, inline, maybe_filled, params,
    problem::quoted,
};
use crate::stages::vectors::Params;

params! {
    /// How activations become emotion vectors.
    pub struct VectorKeys {
        #[of(Type::Inline(Params::TABLE))]
        #[with(inline::<Params>)]
        pub made: Params;
        /// Imported vectors, as a set beside those computed from stories.
        #[unset("none")]
        #[of(Type::Others(ImportKeys::TABLE))]
        #[with(imports)]
        pub imports: Vec<Import>;
    }
}

params! {
    /// Imported vectors from files, as a set under this name beside those computed from stories. They are used
    /// unchanged: not centred, denoised or scaled. Analyses that need only vectors and the model run on them. See docs/export.md.
    pub struct ImportKeys {
        /// A file, or several as a glob (`theirs/*.gguf`), relative to the project: `.safetensors` or `.npz` with an array `[layers,
        /// d_model]` under each emotion's name, or control vectors of llama.cpp and repeng (`.gguf`), each of the emotion that it
        /// names, or that is its own name.
        #[of(Type::Text)]
        #[with(path)]
        pub path: PathBuf;
        /// The model of `[models]` that they are of.
        #[unset("every model of that width")]
        #[with(maybe_filled)]
        pub model: Option<String>;
        /// Which layers the rows of each array are, in rising order, where the file does not say: blocks, counted from 0.
        #[unset("as the file says")]
        pub layers: Option<Rows>;
    }
}

/// One `[vectors.<name>]` table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Import {
    pub name: String,
    /// Absolute (joined with the project root), and may be a glob.
    pub path: PathBuf,
    pub model: Option<String>,
    pub layers: Option<Vec<Layer>>,
    /// The location of `path`.
    #[serde(skip)]
    pub span: Span,
}

impl Import {
    /// The source of the vectors, with `paths` as its files.
    pub fn files(&self, paths: Vec<PathBuf>) -> Files {
        Files { paths, layers: self.layers.clone() }
    }
}

/// The layers of the rows.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rows(pub Vec<Layer>);

impl Value for Rows {
    const OF: Type = Type::Forms { words: &[], layers: true, table: None };

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Rows> {
        match reader.form(key, node)? {
            Form::Layers(layers) => Ok(Rows(layers)),
            Form::Word(_) | Form::Table(_) => unreachable!("it has no other form"),
        }
    }
}

/// Every valid table, in the order of the file.
fn imports(reader: &Reader<'_>, _: &str) -> Read<Vec<Import>> {
    let models: Vec<&str> = reader.scope.names("models").collect();
    let taken: Vec<&str> = ["stories", "dialogues", "transcripts"]
        .into_iter()
        .flat_map(|table| reader.scope.names(table))
        .collect();
    let mut all = Vec::new();
    for (entry, table) in reader.others(ImportKeys::TABLE)? {
        if taken.contains(&entry.key.as_str()) || entry.key == "neutral" {
            let message = format!("{} is the name of texts already", quoted(&entry.key));
            reader.note(Problem::at(entry.key_span.clone(), message).hint("give the vectors another one"));
            continue;
        }
        let Ok(ImportKeys { path, model, layers }) = ImportKeys::read(&table) else { continue };
        if let Some(model) = model.as_ref().filter(|model| !models.contains(&model.as_str())) {
            let message = format!("there is no model {}", quoted(model));
            let hint = format!("models: {}", models.join(", "));
            table.note(Problem::at(table.span_of("model"), message).hint(hint));
            continue;
        }
        let layers = layers.map(|rows| rows.0);
        all.push(Import { name: entry.key, path, model, layers, span: table.span_of("path") });
    }
    Ok(all)
}

fn path(reader: &Reader<'_>, name: &str) -> Read<PathBuf> {
    let written = reader.filled(name)?;
    let last = written.rsplit('/').next().unwrap_or_default();
    // A glob may leave the extension open.
    match refused(last).filter(|_| !last.ends_with(['*', '}', ']'])) {
        None => Ok(reader.scope.project.join(&written)),
        Some(why) => {
            let problem = Problem::at(reader.span_of(name), format!("{} {why}", quoted(&written)));
            reader.wrong(problem.hint(KNOWN))
        }
    }
}
