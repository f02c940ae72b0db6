//! What is computed from emotion vectors: one file an analysis.

mod cluster;
pub mod cosine;
mod headline;
pub mod logit_lens;
pub mod pca;
mod pca_panels;
mod published;
pub mod steering;
mod steering_figures;
mod words;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

pub use headline::Headline;

use crate::lm::LanguageModel;
use crate::report::figure::{Body, Figure};
use crate::store::table::{Column, Table};

/// Every analysis there is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Analysis {
    Pca(pca::Pca),
    Cosine(cosine::Cosine),
    LogitLens(logit_lens::LogitLens),
    Steering(steering::Steering),
}

/// Tables by name, as an analysis makes them: `pca`, `pca_variance`, `cosine`, ...
pub type Tables = Vec<(String, Table)>;

/// Told how much is done of how much.
pub type Progress<'a> = dyn FnMut(usize, usize) + 'a;

impl Analysis {
    /// The kind, as the experiment file spells it.
    pub fn kind(&self) -> &'static str {
        match self {
            Analysis::Pca(_) => "pca",
            Analysis::Cosine(_) => "cosine",
            Analysis::LogitLens(_) => "logit_lens",
            Analysis::Steering(_) => "steering",
        }
    }

    /// Raised when the same vectors would give other tables.
    pub fn version(&self) -> u32 {
        match self {
            Analysis::Pca(_) => pca::VERSION,
            Analysis::Cosine(_) => cosine::VERSION,
            Analysis::LogitLens(_) => logit_lens::VERSION,
            Analysis::Steering(_) => steering::VERSION,
        }
    }

    /// Whether it looks into the model that the vectors were read from.
    pub fn needs_model(&self) -> bool {
        match self {
            Analysis::Pca(_) | Analysis::Cosine(_) => false,
            Analysis::LogitLens(_) | Analysis::Steering(_) => true,
        }
    }

    /// Whether it draws random numbers, so that the experiment's seed is part of its key.
    pub fn draws(&self) -> bool {
        match self {
            Analysis::Pca(_) | Analysis::Cosine(_) | Analysis::LogitLens(_) => false,
            Analysis::Steering(params) => params.random > 0,
        }
    }

    /// Its chapter's title in the report.
    pub fn title(&self) -> &'static str {
        match self {
            Analysis::Pca(_) => "Principal components",
            Analysis::Cosine(_) => "Similarity",
            Analysis::LogitLens(_) => "Logit lens",
            Analysis::Steering(_) => "Steering",
        }
    }

    /// What the chapter shows, for a reader who has not seen the experiment file.
    pub fn intro(&self) -> &'static str {
        match self {
            Analysis::Pca(_) => "The directions along which the emotion vectors of a layer differ most.",
            Analysis::Cosine(_) => "How alike the emotion vectors of a layer point.",
            Analysis::LogitLens(_) => {
                "The tokens that each emotion vector makes more and less likely when it is read through the unembedding."
            }
            Analysis::Steering(_) => {
                "What happens to the probability of each emotion's word when a vector is added to the residual stream."
            }
        }
    }

    /// Which of the kept layers of a model of `n_layers` blocks it reads.
    pub fn layers(&self, kept: &[usize], n_layers: usize) -> Vec<usize> {
        match self {
            Analysis::Pca(_) | Analysis::Cosine(_) | Analysis::LogitLens(_) => kept.to_vec(),
            Analysis::Steering(params) => params.layers.of(kept, n_layers),
        }
    }

    /// The tables of one set of vectors, which holds the layers of [`Analysis::layers`] or more.
    ///
    /// `seed` is the experiment's. An error if the model is needed and not given.
    pub fn run(
        &self,
        set: &VectorSet,
        model: Option<&LanguageModel>,
        seed: u64,
        progress: &mut Progress,
    ) -> Result<Tables> {
        let model = || model.with_context(|| format!("`{}` needs the model", self.kind()));
        match self {
            Analysis::Pca(params) => pca::run(params, set),
            Analysis::Cosine(params) => cosine::run(params, set),
            Analysis::LogitLens(params) => logit_lens::run(params, set, model()?, progress),
            Analysis::Steering(params) => steering::run(params, set, model()?, seed, progress),
        }
    }

    /// The figures of the analysis `name`, from the tables of one or of several sets of vectors.
    pub fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        match self {
            Analysis::Pca(params) => pca::figures(params, name, tables),
            Analysis::Cosine(params) => cosine::figures(params, name, tables),
            Analysis::LogitLens(params) => logit_lens::figures(params, name, tables),
            Analysis::Steering(params) => steering_figures::figures(params, name, tables),
        }
    }

    /// The numbers that say in short what it found on each set of vectors, at each layer.
    pub fn headlines(&self, tables: &[(String, Table)]) -> Result<Vec<Headline>> {
        match self {
            Analysis::Pca(_) => pca::headlines(tables),
            Analysis::Cosine(params) => cosine::headlines(params, tables),
            Analysis::LogitLens(_) => logit_lens::headlines(tables),
            Analysis::Steering(_) => steering_figures::headlines(tables),
        }
    }

    /// What its headline numbers mean, and how they are computed.
    pub fn reading(&self) -> &'static str {
        match self {
            Analysis::Pca(_) => pca::READING,
            Analysis::Cosine(_) => cosine::READING,
            Analysis::LogitLens(_) => logit_lens::READING,
            Analysis::Steering(_) => steering_figures::READING,
        }
    }

    /// Figures that show several sets of vectors side by side, from tables that hold one layer of each.
    pub fn side_by_side(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        match self {
            Analysis::Pca(_) => Ok(pca_panels::figure(name, tables)?.into_iter().collect()),
            Analysis::Cosine(_) | Analysis::LogitLens(_) | Analysis::Steering(_) => Ok(Vec::new()),
        }
    }
}

/// The emotion vectors of one model and one source of stories.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSet {
    pub model: String,
    pub stories: String,
    /// Blocks of the model.
    pub n_layers: usize,
    /// In rising order.
    pub layers: Vec<LayerVectors>,
}

/// The emotion vectors at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerVectors {
    pub layer: usize,
    pub emotions: Vec<String>,
    pub d_model: usize,
    /// `[emotion, d_model]`, row after row.
    pub vectors: Vec<f64>,
    /// The same before denoising.
    pub raw: Vec<f64>,
    pub n_stories: Vec<usize>,
    /// The mean norm of the pooled residuals.
    pub resid_norm: f64,
}

impl VectorSet {
    /// From vectors tables, each of one layer or of several. An error if there is no vector.
    pub fn from_tables(model: &str, stories: &str, n_layers: usize, tables: &[Table]) -> Result<VectorSet> {
        let mut layers: Vec<LayerVectors> = Vec::new();
        for table in tables {
            let (d_model, vectors) = table.list("vector")?;
            let (raw_width, raw) = table.list("raw")?;
            ensure!(raw_width == d_model, "`vector` and `raw` are of different widths");
            let (emotions, n_stories) = (table.str("emotion")?, table.i32("n_stories")?);
            let (layer, resid_norm) = (table.i32("layer")?, table.f32("resid_norm")?);
            for row in 0..table.rows() {
                let number = usize::try_from(layer[row]).context("a negative layer in a vectors table")?;
                let at = layers.iter().position(|l| l.layer == number).unwrap_or_else(|| {
                    layers.push(LayerVectors {
                        layer: number,
                        emotions: Vec::new(),
                        d_model,
                        vectors: Vec::new(),
                        raw: Vec::new(),
                        n_stories: Vec::new(),
                        resid_norm: f64::from(resid_norm[row]),
                    });
                    layers.len() - 1
                });
                let found = &mut layers[at];
                ensure!(found.d_model == d_model, "vectors of different widths at layer {number}");
                let cells = row * d_model..(row + 1) * d_model;
                found.emotions.push(emotions[row].clone());
                found.vectors.extend(vectors[cells.clone()].iter().map(|&x| f64::from(x)));
                found.raw.extend(raw[cells].iter().map(|&x| f64::from(x)));
                found
                    .n_stories
                    .push(usize::try_from(n_stories[row]).context("a negative number of stories")?);
            }
        }
        ensure!(!layers.is_empty(), "there are no vectors of {model} on {stories}");
        layers.sort_by_key(|l| l.layer);
        Ok(VectorSet { model: model.to_string(), stories: stories.to_string(), n_layers, layers })
    }
}

impl LayerVectors {
    /// The vector of the emotion at `index`.
    fn vector(&self, index: usize) -> &[f64] {
        &self.vectors[index * self.d_model..(index + 1) * self.d_model]
    }
}

/// The columns with which every analysis table starts: `model`, `stories`, `layer`, one entry a row.
#[derive(Default)]
struct Places {
    model: Vec<String>,
    stories: Vec<String>,
    layer: Vec<i32>,
}

impl Places {
    fn push(&mut self, set: &VectorSet, layer: usize) {
        self.model.push(set.model.clone());
        self.stories.push(set.stories.clone());
        self.layer.push(layer as i32);
    }

    fn table(self, schema: &str, columns: Vec<(&str, Column)>) -> Table {
        let places = [
            ("model", Column::Str(self.model)),
            ("stories", Column::Str(self.stories)),
            ("layer", Column::I32(self.layer)),
        ];
        Table::new(schema, places.into_iter().chain(columns).collect())
    }
}

/// The rows of one model, source of stories, variant and layer in an analysis table.
struct Group<'a> {
    table: &'a Table,
    model: &'a str,
    stories: &'a str,
    /// As in the column `variant`: `from_token=50, denoise=none`; empty without a sweep.
    variant: &'a str,
    layer: usize,
    rows: Vec<usize>,
}

impl Group<'_> {
    /// What tells it from other groups of tables of the same kind.
    fn place(&self) -> (&str, &str, &str, usize) {
        (self.model, self.stories, self.variant, self.layer)
    }

    /// The axes of the variant and their values.
    fn axes(&self) -> Vec<(String, String)> {
        let axes = self.variant.split(", ").filter_map(|axis| axis.split_once('='));
        axes.map(|(axis, value)| (axis.to_string(), value.to_string())).collect()
    }

    /// A figure of this group.
    fn figure(&self, name: String, title: String, caption: String, body: Body) -> Figure {
        Figure {
            name,
            title,
            caption,
            model: Some(self.model.to_string()),
            stories: Some(self.stories.to_string()),
            layer: Some(self.layer),
            axes: self.axes(),
            body,
        }
    }
}

/// The tables called `name`, their rows grouped by model, stories, variant and layer in order of appearance. Tables as
/// an analysis makes them have no column `variant`; results put it there.
fn groups<'a>(tables: &'a [(String, Table)], name: &str) -> Result<Vec<Group<'a>>> {
    let mut groups: Vec<Group> = Vec::new();
    for (_, table) in tables.iter().filter(|(n, _)| n == name) {
        let (model, stories, layer) = (table.str("model")?, table.str("stories")?, table.i32("layer")?);
        let variants = table.str("variant").ok();
        for row in 0..table.rows() {
            let variant = variants.map_or("", |variants| variants[row].as_str());
            let place = (model[row].as_str(), stories[row].as_str(), variant, layer[row] as usize);
            let here = |g: &Group| std::ptr::eq(g.table, table) && g.place() == place;
            match groups.last_mut().filter(|g| here(g)) {
                Some(group) => group.rows.push(row),
                None => match groups.iter_mut().find(|g| here(g)) {
                    Some(group) => group.rows.push(row),
                    None => groups.push(Group {
                        table,
                        model: &model[row],
                        stories: &stories[row],
                        variant,
                        layer: layer[row] as usize,
                        rows: vec![row],
                    }),
                },
            }
        }
    }
    Ok(groups)
}

/// The different values of `column` in `rows`, in order of appearance.
fn distinct<'a>(column: &'a [String], rows: &[usize]) -> Vec<&'a str> {
    let mut seen = std::collections::HashSet::new();
    rows.iter().map(|&row| column[row].as_str()).filter(|&value| seen.insert(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A set of one layer whose vectors are given row by row.
    pub fn set(emotions: &[&str], rows: &[&[f64]]) -> VectorSet {
        let layer = LayerVectors {
            layer: 3,
            emotions: emotions.iter().map(|e| e.to_string()).collect(),
            d_model: rows[0].len(),
            vectors: rows.concat(),
            raw: rows.concat(),
            n_stories: vec![1; rows.len()],
            resid_norm: 10.0,
        };
        VectorSet { model: "m".into(), stories: "s".into(), n_layers: 6, layers: vec![layer] }
    }

    #[test]
    fn a_set_is_read_from_tables_of_one_layer_or_several() {
        let table = |layers: Vec<i32>, values: Vec<f32>| {
            let n = layers.len();
            let list = |values: Vec<f32>| Column::List { width: 2, values, half: false };
            Table::new(
                "vectors/1",
                vec![
                    ("emotion", Column::Str((0..n).map(|i| format!("e{i}")).collect())),
                    ("layer", Column::I32(layers)),
                    ("n_stories", Column::I32(vec![4; n])),
                    ("vector", list(values.clone())),
                    ("raw", list(values)),
                    ("resid_norm", Column::F32(vec![2.5; n])),
                ],
            )
        };
        let tables =
            [table(vec![5, 5], vec![1.0, 2.0, 3.0, 4.0]), table(vec![2, 1], vec![5.0, 6.0, 7.0, 8.0])];
        let set = VectorSet::from_tables("m", "s", 6, &tables).unwrap();
        assert_eq!(set.layers.iter().map(|l| l.layer).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(set.layers[2].vectors, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(set.layers[0].emotions, ["e1"]);
        assert_eq!(set.layers[0].resid_norm, 2.5);
        assert!(VectorSet::from_tables("m", "s", 6, &[]).is_err());
    }

    #[test]
    fn an_analysis_that_needs_the_model_says_so() {
        let lens = Analysis::LogitLens(logit_lens::LogitLens { top: 3, norm: logit_lens::LensNorm::None });
        assert!(lens.needs_model());
        let error = lens.run(&set(&["a"], &[&[1.0]]), None, 0, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("`logit_lens` needs the model"));
    }
}
