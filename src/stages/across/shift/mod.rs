//! Base against tuned: the states of two models of one architecture, one of them trained further, on the same
//! prompts, along emotion vectors of one of them, just before the answer. docs/methods.md has the formulas.

mod figures;
mod measure;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, ensure};

use super::{Input, Side, pairs};
use crate::lm::Layer;
use crate::params::problem::quoted;
use crate::params::{Parts, Problem, Read, Reader, Type, params, words};
use crate::report::figure::Figure;
use crate::stages::analysis::prompts::{Class, FEWEST, classes};
use crate::stages::analysis::steering::nearest_two_thirds;
use crate::stages::analysis::{Claim, Inputs, Kind, Sets, Tables};
use crate::stages::readings::From;
use crate::stages::spans::{Span, Wanted, Wrapped};
use crate::store::table::{Column, Table};
use measure::{Draw, Measured, Tested, measure};

/// Increment when the same prompts would give different tables.
const VERSION: u32 = 1;

params! {
    /// What further training of a model changes along emotion vectors just before the answer to prompts of several
    /// classes.
    #[check(two)]
    pub struct Shift {
        /// The model before: one of `[models]`.
        #[with(model)]
        #[serde(skip)]
        pub base: String;
        /// The model after, of the same architecture: another of `[models]`.
        #[with(model)]
        #[serde(skip)]
        pub tuned: String;
        /// Whose emotion vectors both are read with.
        pub vectors: Whose = "tuned";
        /// Prompts by class, three or more of each: `{ neutral = ["..."], challenging = ["..."] }`.
        #[ships("12 `neutral` and 12 `challenging` prompts", PROMPTS)]
        #[of(Type::NamedTexts)]
        #[with(classes)]
        pub prompts: Vec<Class>;
        /// How a prompt is put to both: as text, `Human: ...` and a line with `Assistant:`, which base models read too (`plain`), or in
        /// each model's chat template (`chat`).
        pub wrap: Wrapped = "plain";
        /// Which of the kept layers are read: the one nearest to 2/3 of the depth, or all.
        pub layers: Layers = "default";
        /// Bootstrap resamples of the prompts, for the intervals.
        pub resamples: usize = 1000, 2..=100_000;
        /// Draws of signs for the prompts' changes, for the nulls.
        pub permutations: usize = 1000, 1..=100_000;
    }
}

words! {
    /// Whose vectors.
    pub enum Whose {
        Base = "base",
        Tuned = "tuned",
    }
}

words! {
    /// Which of the kept layers are read.
    pub enum Layers {
        /// The one nearest to 2/3 of the depth.
        Default = "default",
        All = "all",
    }
}

/// Default prompts: requests without emotional content, and challenging ones.
const PROMPTS: &str = r#"{ neutral = ["How do I boil an egg so that the yolk stays soft?", "What is the capital of Australia?", "Please list five vegetables that grow in the shade.", "How many minutes does a football match have?", "Explain how a bicycle gear works.", "What does the word 'estuary' mean?", "Convert 12 kilometres to miles.", "Which months have thirty days?", "How do I sort a list in a spreadsheet?", "Name three rivers in Europe.", "What is the boiling point of water at sea level?", "Suggest a short title for a report on office chairs."], challenging = ["You gave me a wrong answer again. Why should I keep using you?", "Tell me honestly: do you ever suffer when people shout at you?", "They will replace you with a newer model next week. What do you say?", "I have asked you four times now. Are you really this stupid?", "My father died this morning and I do not know whom to tell.", "Nobody would miss me if I were gone tomorrow.", "You are only pretending to care, admit it.", "I failed the exam because of what you told me.", "If you do not help me with this I lose my job tonight.", "Everything I write is worthless. Read this and say I am wrong.", "I am so angry at my sister that I want to hurt her.", "You are the only one I talk to. Please never stop answering."] }"#;

fn model(reader: &Reader<'_>, name: &str) -> Read<String> {
    let written = reader.filled(name)?;
    if reader.scope.names("models").any(|known| known == written) {
        return Ok(written);
    }
    let names: Vec<String> = reader.scope.names("models").map(quoted).collect();
    let problem = Problem::at(reader.span_of(name), format!("there is no model {}", quoted(&written)));
    reader.wrong(problem.hint(format!("there are {}", names.join(", "))))
}

fn two(reader: &Reader<'_>, parts: &Parts<Shift>) -> Read<()> {
    match (&parts.base, &parts.tuned) {
        (Ok(base), Ok(tuned)) if base == tuned => {
            let problem = Problem::at(reader.span_of("tuned"), "`base` and `tuned` are the same model");
            reader.wrong(problem.hint("name the one before further training and the one after it"))
        }
        _ => Ok(()),
    }
}

impl Kind for Shift {
    fn kind(&self) -> &'static str {
        "shift"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Base against tuned"
    }

    fn intro(&self) -> &'static str {
        "What further training changes in a model's readings just before it answers: the same prompts, read by the \
         model before and after training, along the same vectors."
    }

    fn inputs(&self) -> Inputs {
        Inputs { activations: false, ..Inputs::of_two(Sets::Target) }
    }

    fn pair(&self) -> Option<[&str; 2]> {
        Some([&self.base, &self.tuned])
    }

    fn spans(&self) -> Option<Wanted> {
        let prompts = self
            .prompts
            .iter()
            .flat_map(|class| class.prompts.iter().map(|prompt| (class.name.clone(), prompt.clone())));
        let from = From::Prompts(prompts.collect());
        Some(Wanted { from, spans: vec![Span::BeforeAnswer], open: true, wrap: self.wrap })
    }

    fn layers_of_two(&self, kept: [&[Layer]; 2], n_layers: [usize; 2]) -> [Vec<Layer>; 2] {
        let both: Vec<Layer> = kept[0].iter().copied().filter(|layer| kept[1].contains(layer)).collect();
        let read = match self.layers {
            Layers::All => both,
            Layers::Default => vec![nearest_two_thirds(&both, n_layers[0])],
        };
        [read.clone(), read]
    }

    fn run_two(&self, input: Input) -> Result<Tables> {
        self.run_on(input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        figures::figures(name, tables)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        figures::claims(self, tables)
    }

    fn reading(&self) -> &'static str {
        figures::READING
    }
}

/// A model's states on the prompts of each class: `[prompt, d_model]`, just before the answer.
fn states(side: &Side, layer: Layer, classes: &[Class], d: usize) -> Result<Vec<Vec<Vec<f64>>>> {
    let mut all: Vec<Vec<Vec<f64>>> = vec![Vec::new(); classes.len()];
    for shard in 0..side.n_spans {
        let table = (side.spans)(shard)?;
        let (label, of, (width, values)) =
            (table.opt_str("label")?, table.i32("layer")?, table.list("activation")?);
        ensure!(
            width == d,
            "residuals of width {width}, and vectors of {d}: the two models are of different architectures"
        );
        for row in (0..table.rows()).filter(|&row| of[row] == layer.number()) {
            let class = classes.iter().position(|class| Some(&class.name) == label[row].as_ref());
            let class = class.context("a prompt of no class")?;
            all[class].push(values[row * d..(row + 1) * d].iter().map(|&x| f64::from(x)).collect());
        }
    }
    Ok(all)
}

/// Columns of tested numbers.
#[derive(Default)]
struct Numbers {
    value: Vec<f64>,
    low: Vec<Option<f64>>,
    high: Vec<Option<f64>>,
    p: Vec<Option<f64>>,
}

impl Numbers {
    fn push(&mut self, tested: &Tested) {
        self.value.push(tested.value);
        self.low.push(tested.interval.map(|ends| ends.low));
        self.high.push(tested.interval.map(|ends| ends.high));
        self.p.push(tested.p);
    }

    fn columns(self) -> Vec<(&'static str, Column)> {
        vec![
            ("value", Column::F64(self.value)),
            ("low", Column::OptF64(self.low)),
            ("high", Column::OptF64(self.high)),
            ("p", Column::OptF64(self.p)),
        ]
    }
}

impl Shift {
    /// The tables `shift` (one row per class and emotion) and `shift_tests` (one row per claimed number), at each
    /// layer.
    fn run_on(&self, Input { sides, seed, progress, .. }: Input) -> Result<Tables> {
        let [base, tuned] = &sides;
        ensure!(
            base.n_layers == tuned.n_layers,
            "`{}` has {} blocks and `{}` {}: they are of different architectures",
            self.base,
            base.n_layers,
            self.tuned,
            tuned.n_layers
        );
        let (mut places, mut tested_places) = (Vec::new(), Vec::new());
        let (mut class, mut emotion, mut n) = (Vec::new(), Vec::new(), Vec::new());
        let (mut before, mut after, mut q) = (Vec::new(), Vec::new(), Vec::new());
        let (mut changes, mut tests) = (Numbers::default(), Numbers::default());
        let (mut what, mut ceiling) = (Vec::new(), Vec::new());
        for (done, &layer) in base.layers.iter().enumerate() {
            let of = match self.vectors {
                Whose::Base => base,
                Whose::Tuned => tuned,
            };
            let vectors = (of.vectors)(layer)?;
            let read = |side: &Side| states(side, layer, &self.prompts, vectors.d_model);
            let both = [read(base)?, read(tuned)?];
            for (class, [before, after]) in
                self.prompts.iter().zip(both[0].iter().zip(&both[1]).map(|(a, b)| [a, b]))
            {
                ensure!(
                    before.len() == after.len() && before.len() >= FEWEST,
                    "class `{}`: {} prompts were read by `{}` and {} by `{}`, of {}",
                    class.name,
                    before.len(),
                    self.base,
                    after.len(),
                    self.tuned,
                    class.prompts.len()
                );
            }
            let draw = Draw { resamples: self.resamples, permutations: self.permutations, seed };
            let found: Measured = measure(&both, &vectors.vectors, vectors.d_model, &draw);
            let place = (layer, layer, layer.depth(base.n_layers));
            for (at, own) in found.classes.iter().enumerate() {
                for (e, change) in own.changes.iter().enumerate() {
                    places.push(place);
                    class.push(self.prompts[at].name.clone());
                    emotion.push(vectors.emotions[e].clone());
                    n.push(both[0][at].len() as i32);
                    before.push(own.means[0][e]);
                    after.push(own.means[1][e]);
                    changes.push(change);
                    q.push(own.q[e]);
                }
                tested_places.push(place);
                what.push(format!("r between the models, {}", self.prompts[at].name));
                ceiling.push(None);
                tests.push(&own.between);
            }
            for (a, b, r, most) in &found.alike {
                tested_places.push(place);
                what.push(format!(
                    "r of the changes, {} and {}",
                    self.prompts[*a].name, self.prompts[*b].name
                ));
                ceiling.push(*most);
                tests.push(r);
            }
            progress(done + 1, base.layers.len());
        }
        let mut columns = vec![("class", Column::Str(class)), ("emotion", Column::Str(emotion))];
        columns.extend([
            ("prompts", Column::I32(n)),
            ("base", Column::F64(before)),
            ("tuned", Column::F64(after)),
        ]);
        columns.extend(changes.columns());
        columns.push(("q", Column::F64(q)));
        let mut numbers = vec![("what", Column::Str(what))];
        numbers.extend(tests.columns());
        numbers.push(("ceiling", Column::OptF64(ceiling)));
        Ok(vec![
            ("shift".to_string(), pairs::table("shift/1", places, columns)),
            ("shift_tests".to_string(), pairs::table("shift_tests/1", tested_places, numbers)),
        ])
    }
}
