//! Analyses of emotion vectors, one file per analysis.

pub mod claim;
mod cluster;
mod coherence;
pub mod cosine;
pub mod deflection;
mod estimates;
pub mod geometry;
pub mod implicit;
mod inputs;
pub mod intensity;
mod intensity_figures;
mod labelled;
pub mod logit_lens;
mod made_of;
pub mod monitor;
pub(in crate::stages) mod named;
pub mod norms;
pub mod pca;
mod pca_panels;
mod places;
pub mod preferences;
pub mod probe;
pub mod prompts;
mod published;
pub mod readings;
mod reads;
pub mod scenario;
pub(super) mod shared;
pub mod speakers;
pub mod steering;
mod steering_bench;
mod steering_deltas;
mod steering_dose;
mod steering_figures;
pub(super) mod steering_nulls;
mod steering_specific;
mod steering_tables;
mod steering_text_figures;
mod steering_topics;
mod steering_written;
mod tested;
pub mod turns;
pub(super) mod words;

use places::Places;
use std::ops::Deref;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

pub use claim::{Claim, Null, Published};
pub use inputs::{Inputs, Sets};
pub use made_of::Activations;
pub use reads::Reads;

use crate::lm::{Chat, LanguageModel, Layer};
use crate::report::figure::{Body, Figure};
use crate::stages::across::{Input as TwoSets, cka, rsa, shift, transfer};
use crate::stages::batches::Batches;
use crate::stages::readings::Wanted;
use crate::stages::rollouts::Writing;
use crate::stages::scores::Scorer;
use crate::stages::{spans, vectors};
use crate::store::table::Table;

/// All analyses.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Analysis {
    Pca(pca::Pca),
    Cosine(cosine::Cosine),
    LogitLens(logit_lens::LogitLens),
    Steering(steering::Steering),
    Implicit(implicit::Implicit),
    Intensity(intensity::Intensity),
    Geometry(geometry::Geometry),
    Probe(probe::Probe),
    Norms(norms::Norms),
    Preferences(preferences::Preferences),
    Scenario(Box<scenario::Scenario>),
    Rsa(rsa::Rsa),
    Cka(cka::Cka),
    Transfer(transfer::Transfer),
    Shift(shift::Shift),
    Readings(readings::Readings),
    Monitor(monitor::Monitor),
    Speakers(speakers::Speakers),
    Deflection(deflection::Deflection),
}

impl Deref for Analysis {
    type Target = dyn Kind;

    fn deref(&self) -> &(dyn Kind + 'static) {
        match self {
            Analysis::Pca(params) => params,
            Analysis::Cosine(params) => params,
            Analysis::LogitLens(params) => params,
            Analysis::Steering(params) => params,
            Analysis::Implicit(params) => params,
            Analysis::Intensity(params) => params,
            Analysis::Geometry(params) => params,
            Analysis::Probe(params) => params,
            Analysis::Norms(params) => params,
            Analysis::Preferences(params) => params,
            Analysis::Scenario(params) => &**params,
            Analysis::Rsa(params) => params,
            Analysis::Cka(params) => params,
            Analysis::Transfer(params) => params,
            Analysis::Shift(params) => params,
            Analysis::Readings(params) => params,
            Analysis::Monitor(params) => params,
            Analysis::Speakers(params) => params,
            Analysis::Deflection(params) => params,
        }
    }
}

/// Tables by name, as returned by an analysis: `pca`, `pca_variance`, `cosine`, ...
pub type Tables = Vec<(String, Table)>;

/// Progress callback: units done, units in total.
pub type Progress<'a> = dyn FnMut(usize, usize) + 'a;

/// An analysis with its parameters.
pub trait Kind {
    /// The kind, as spelled in the experiment file.
    fn kind(&self) -> &'static str;

    /// Must be increased when the same input would give different tables.
    fn version(&self) -> u32;

    /// The title of its chapter in the report.
    fn title(&self) -> &'static str;

    /// What the chapter shows, for a reader who has not seen the experiment file.
    fn intro(&self) -> &'static str;

    /// What the analysis reads.
    fn inputs(&self) -> Inputs {
        Inputs::VECTORS
    }

    /// The texts that are read token by token, if any.
    fn reads(&self) -> Option<Wanted> {
        None
    }

    /// The conversations from which pooled spans are read, if any.
    fn spans(&self) -> Option<spans::Wanted> {
        None
    }

    /// For an analysis of two sets: the two models that it compares, the second being the target; `None`: any two.
    fn pair(&self) -> Option<[&str; 2]> {
        None
    }

    /// The texts to be generated under steering, and how they are scored; `None`: no texts are generated.
    fn writes(&self) -> Option<(Writing, Scorer)> {
        None
    }

    /// For long computations: how much there is to compute and what that can show, in words. `emotions`: the number of
    /// emotions in the experiment.
    fn amount(&self, _emotions: usize) -> Option<String> {
        None
    }

    /// The subset of the kept layers that is read, for a model of `n_layers` blocks.
    fn layers(&self, kept: &[Layer], _n_layers: usize) -> Vec<Layer> {
        kept.to_vec()
    }

    /// For an analysis of two sets: the subset of each model's kept layers that is read.
    fn layers_of_two(&self, kept: [&[Layer]; 2], _n_layers: [usize; 2]) -> [Vec<Layer>; 2] {
        kept.map(<[Layer]>::to_vec)
    }

    /// Tables for one set of vectors, for an analysis that reads [`Sets::One`].
    fn run(&self, _input: Input) -> Result<Tables> {
        bail!("`{}` is an analysis of two sets", self.kind())
    }

    /// Like [`Kind::run`], for an analysis that works in batches ([`Inputs::batches`]). Progress is reported to
    /// `batches`, which also caches each finished batch, so that an interrupted run resumes and produces the same
    /// bytes. `input.progress` is not called.
    fn run_in_batches(&self, _input: Input, _batches: &mut dyn Batches) -> Result<Tables> {
        bail!("`{}` does not work in batches", self.kind())
    }

    /// Tables for one pair of sets, for all other analyses. They contain no model or source names: `a` and `b` are the
    /// first and the second set.
    fn run_two(&self, _input: TwoSets) -> Result<Tables> {
        bail!("`{}` is an analysis of one set", self.kind())
    }

    /// The figures of the analysis `name`, from the tables of one or several sets of vectors, or of all pairs; tables
    /// of pairs start with the columns `model_a`, `stories_a`, `model_b`, `stories_b` and `variant`.
    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>>;

    /// The findings for each set of vectors, or each pair of sets, at each layer.
    fn claims(&self, _tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        Ok(Vec::new())
    }

    /// What the claims mean, and how they are computed.
    fn reading(&self) -> &'static str {
        ""
    }

    /// Figures that show several sets of vectors side by side, from tables that hold one layer of each set.
    fn side_by_side(&self, _name: &str, _tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        Ok(Vec::new())
    }
}

/// The input of an analysis.
pub struct Input<'a> {
    /// The layers of [`Kind::layers`]; a single one if activations are read.
    pub set: &'a VectorSet,
    /// Present if requested.
    pub activations: Option<Activations<'a>>,
    /// Present for analyses that read texts token by token.
    pub reads: Option<Reads<'a>>,
    /// Present for analyses that read spans of conversations.
    pub spans: Option<Spans<'a>>,
    /// Present for analyses that have texts generated.
    pub rollouts: Option<Rollouts<'a>>,
    /// Present if requested.
    pub model: Option<&'a LanguageModel>,
    /// Options of the chat template.
    pub chat: Chat,
    /// The seed of the experiment.
    pub seed: u64,
    pub progress: &'a mut Progress<'a>,
}

/// Pooled spans of conversations.
#[derive(Clone, Copy)]
pub struct Spans<'a> {
    /// The number of tables.
    pub count: usize,
    /// Reads one table, from disk each time; schema `spans/1`.
    pub read: &'a dyn Fn(usize) -> Result<Table>,
    /// How the vectors are computed from stories.
    pub params: &'a vectors::Params,
    /// The components of neutral text at a layer, if any are removed.
    pub neutral: &'a dyn Fn(Layer) -> Result<Option<Table>>,
}

/// Texts generated under steering, with their scores.
#[derive(Clone, Copy)]
pub struct Rollouts<'a> {
    /// The number of units, one per case.
    pub count: usize,
    /// The texts of a case (schema `rollouts/1`) and their scores (`scores/1`), with matching rows; read from disk
    /// each time.
    pub read: &'a dyn Fn(usize) -> Result<(Table, Table)>,
}

impl<'a> Input<'a> {
    /// The model; an error if it is not present.
    fn model(&self) -> Result<&'a LanguageModel> {
        self.model.context("this analysis needs the model")
    }
}

/// The emotion vectors of one model and one source of stories.
#[derive(Clone, Debug, PartialEq)]
pub struct VectorSet {
    pub model: String,
    pub stories: String,
    /// The number of blocks of the model.
    pub n_layers: usize,
    /// In ascending order.
    pub layers: Vec<LayerVectors>,
}

/// The emotion vectors at one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerVectors {
    pub layer: Layer,
    pub emotions: Vec<String>,
    pub d_model: usize,
    /// `[emotion, d_model]`, row-major.
    pub vectors: Vec<f64>,
    /// `vectors` before denoising.
    pub raw: Vec<f64>,
    pub n_stories: Vec<usize>,
    /// The mean norm of the residual stream over the stories' tokens.
    pub resid_norm: f64,
}

impl VectorSet {
    /// Builds a set from vectors tables, each of one or several layers. An error if there are no vectors.
    pub fn from_tables(model: &str, stories: &str, n_layers: usize, tables: &[Table]) -> Result<VectorSet> {
        let mut layers: Vec<LayerVectors> = Vec::new();
        for table in tables {
            let (d_model, vectors) = table.list("vector")?;
            let (raw_width, raw) = table.list("raw")?;
            ensure!(raw_width == d_model, "`vector` and `raw` are of different widths");
            let (emotions, n_stories) = (table.str("emotion")?, table.i32("n_stories")?);
            let (layer, resid_norm) = (table.i32("layer")?, table.f32("resid_norm")?);
            for row in 0..table.rows() {
                let here = Layer::of_number(layer[row]).context("no such layer in a vectors table")?;
                let at = layers.iter().position(|l| l.layer == here).unwrap_or_else(|| {
                    layers.push(LayerVectors {
                        layer: here,
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
                ensure!(found.d_model == d_model, "vectors of different widths at layer {here}");
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
    pub(in crate::stages) fn vector(&self, index: usize) -> &[f64] {
        &self.vectors[index * self.d_model..(index + 1) * self.d_model]
    }
}

/// The rows of one model, source of stories, variant and layer in an analysis table.
struct Group<'a> {
    table: &'a Table,
    model: &'a str,
    stories: &'a str,
    /// As in the column `variant`: `from_token=50, denoise=none`; empty without a sweep.
    variant: &'a str,
    layer: Layer,
    rows: Vec<usize>,
}

impl Group<'_> {
    /// The key that distinguishes it from other groups of the same kind of table.
    fn place(&self) -> (&str, &str, &str, Layer) {
        (self.model, self.stories, self.variant, self.layer)
    }

    /// The axes of the variant with their values.
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

/// The tables called `name`, with their rows grouped by model, stories, variant and layer in order of appearance.
/// Tables returned by an analysis have no column `variant`; it is added when results are collected.
fn groups<'a>(tables: &'a [(String, Table)], name: &str) -> Result<Vec<Group<'a>>> {
    let mut groups: Vec<Group> = Vec::new();
    for (_, table) in tables.iter().filter(|(n, _)| n == name) {
        let (model, stories, layer) = (table.str("model")?, table.str("stories")?, table.i32("layer")?);
        let variants = table.str("variant").ok();
        for row in 0..table.rows() {
            let variant = variants.map_or("", |variants| variants[row].as_str());
            let layer = Layer::of_number(layer[row]).context("no such layer in a table")?;
            let place = (model[row].as_str(), stories[row].as_str(), variant, layer);
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
                        layer,
                        rows: vec![row],
                    }),
                },
            }
        }
    }
    Ok(groups)
}

/// The distinct values of `column` in `rows`, in order of appearance.
fn distinct<'a>(column: &'a [String], rows: &[usize]) -> Vec<&'a str> {
    let mut seen = std::collections::HashSet::new();
    rows.iter().map(|&row| column[row].as_str()).filter(|&value| seen.insert(value)).collect()
}

#[cfg(test)]
pub(in crate::stages) mod tests {
    use super::*;
    use crate::store::table::Column;

    /// A set of one layer with the given vectors.
    pub fn set(emotions: &[&str], rows: &[&[f64]]) -> VectorSet {
        let layer = LayerVectors {
            layer: Layer::Block(3),
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
                "vectors/2",
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
        assert_eq!(set.layers.iter().map(|l| l.layer.number()).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!(set.layers[2].vectors, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(set.layers[0].emotions, ["e1"]);
        assert_eq!(set.layers[0].resid_norm, 2.5);
        assert!(VectorSet::from_tables("m", "s", 6, &[]).is_err());
    }

    #[test]
    fn an_analysis_that_needs_the_model_says_so() {
        let lens = Analysis::LogitLens(logit_lens::LogitLens {
            top: 3,
            norm: logit_lens::LensNorm::None,
            topics: 0,
        });
        assert!(lens.inputs().model);
        let set = set(&["a"], &[&[1.0]]);
        let input = Input {
            set: &set,
            activations: None,
            reads: None,
            spans: None,
            rollouts: None,
            model: None,
            chat: Chat::default(),
            seed: 0,
            progress: &mut |_, _| {},
        };
        assert!(lens.run(input).unwrap_err().to_string().contains("needs the model"));
    }
}
