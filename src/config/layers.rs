//! Which layers are kept: the forms of the key, and the blocks they select in a model of a given depth. Independent of
//! models.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Blocks, Layers};
use crate::lm::Layer;
use crate::params::{Form, Key, Node, Params as _, Problem, Read, Reader, Type, Value, params};

/// Tolerance when a fraction of the depth is rounded down: 2/3 of 42 is block 28 despite rounding errors.
const ROUNDING: f64 = 1e-9;

impl Layers {
    /// The layers kept in a model of `n_layers` blocks, in ascending order, each once.
    ///
    /// A fraction `d` of the depth is block `floor(d * n_layers)`, at most the last: both 0.667 and 2/3 are block 28
    /// of 42 and block 10 of 16. Errors on a block that the model does not have.
    pub fn resolve(&self, n_layers: usize) -> Result<Vec<Layer>, String> {
        let Some(last) = n_layers.checked_sub(1) else { return Err("the model has no layers".into()) };
        let block = |depth: f64| ((depth * n_layers as f64 + ROUNDING).floor() as usize).min(last);
        let blocks: Vec<usize> = match &self.blocks {
            Blocks::All => (0..n_layers).collect(),
            Blocks::Every(step) => (0..n_layers).step_by((*step).max(1)).collect(),
            Blocks::Depth(depth) => vec![block(*depth)],
            Blocks::Range { from, to } => (block(*from)..=block(*to)).collect(),
            Blocks::List(list) => match list.iter().find(|layer| **layer > last) {
                Some(layer) => {
                    return Err(format!("layer {layer} does not exist: the model's layers are 0 to {last}"));
                }
                None => BTreeSet::from_iter(list.iter().copied()).into_iter().collect(),
            },
        };
        let embed = self.embed.then_some(Layer::Embed);
        Ok(embed.into_iter().chain(blocks.into_iter().map(Layer::Block)).collect())
    }

    /// The layers of an explicit list; `None` for the other forms.
    pub fn listed(&self) -> Option<Vec<Layer>> {
        let Blocks::List(blocks) = &self.blocks else { return None };
        let embed = self.embed.then_some(Layer::Embed);
        Some(embed.into_iter().chain(blocks.iter().copied().map(Layer::Block)).collect())
    }
}

params! {
    /// The table forms of `layers`; exactly one of them, and optionally `embed`.
    pub struct LayerForms {
        /// Blocks 0, n, 2n, ...
        #[unset("-")]
        pub every: Option<usize>, 1..;
        /// The one block in which this fraction of the depth falls: `floor(depth * n_layers)`, at most the last. 0.667 is block
        /// 10 of 16 and 28 of 42.
        #[unset("-")]
        pub depth: Option<f64>, 0.0..=1.0;
        /// With `to`: all blocks from the one at this depth ...
        #[unset("-")]
        pub from: Option<f64>, 0.0..=1.0;
        /// ... to the one at this depth, both included.
        #[unset("-")]
        pub to: Option<f64>, 0.0..=1.0;
        /// With any of the other forms: the layer `embed` too, the token embeddings as they go into block 0. What is found there
        /// is in the words already.
        pub embed: bool = false;
    }
}

impl Value for Layers {
    const OF: Type = Type::Forms { words: &["all"], layers: true, table: Some(LayerForms::TABLE) };

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Layers> {
        let table = match reader.form(key, node)? {
            Form::Word(_) => return Ok(Layers { embed: false, blocks: Blocks::All }),
            Form::Layers(list) => {
                let blocks = Blocks::List(list.iter().filter_map(|layer| layer.block()).collect());
                return Ok(Layers { embed: list.contains(&Layer::Embed), blocks });
            }
            Form::Table(table) => table,
        };
        let LayerForms { every, depth, from, to, embed } = LayerForms::read(&table)?;
        let blocks = match (every, depth, from, to) {
            (Some(every), None, None, None) => Blocks::Every(every),
            (None, Some(depth), None, None) => Blocks::Depth(depth),
            (None, None, Some(from), Some(to)) if from <= to => Blocks::Range { from, to },
            (None, None, Some(from), Some(to)) => {
                let message = format!("`from` = {from} is larger than `to` = {to}");
                let hint = format!("write {{ from = {to}, to = {from} }}");
                return reader.wrong(Problem::at(table.span(), message).hint(hint));
            }
            _ => {
                let message = "`layers` must be exactly one of its forms";
                let hint = "\"all\", [10, 14], { every = 4 }, { depth = 0.667 } or { from = 0.5, to = 0.8 }";
                return reader.wrong(Problem::at(table.span(), message).hint(hint));
            }
        };
        Ok(Layers { embed, blocks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(blocks: Blocks, n_layers: usize) -> Result<Vec<usize>, String> {
        let layers = Layers { embed: false, blocks }.resolve(n_layers)?;
        Ok(layers.into_iter().filter_map(Layer::block).collect())
    }

    #[test]
    fn the_embedding_comes_first() {
        let layers = Layers { embed: true, blocks: Blocks::Every(2) };
        assert_eq!(layers.resolve(3), Ok(vec![Layer::Embed, Layer::Block(0), Layer::Block(2)]));
        let layers = Layers { embed: true, blocks: Blocks::List(Vec::new()) };
        assert_eq!(layers.resolve(3), Ok(vec![Layer::Embed]));
    }

    #[test]
    fn two_thirds_of_the_depth_are_the_published_layers() {
        for depth in [0.667, 2.0 / 3.0] {
            assert_eq!(resolve(Blocks::Depth(depth), 42), Ok(vec![28]));
            assert_eq!(resolve(Blocks::Depth(depth), 16), Ok(vec![10]));
        }
    }

    #[test]
    fn forms_resolve_to_blocks() {
        for (wanted, n_layers, blocks) in [
            (Blocks::All, 3, Ok(vec![0, 1, 2])),
            (Blocks::Every(4), 10, Ok(vec![0, 4, 8])),
            (Blocks::Every(99), 4, Ok(vec![0])),
            (Blocks::Depth(0.0), 4, Ok(vec![0])),
            (Blocks::Depth(1.0), 4, Ok(vec![3])),
            (Blocks::Range { from: 0.5, to: 0.8 }, 10, Ok(vec![5, 6, 7, 8])),
            (Blocks::Range { from: 0.0, to: 1.0 }, 2, Ok(vec![0, 1])),
            (Blocks::List(vec![2, 0, 2]), 3, Ok(vec![0, 2])),
            (
                Blocks::List(vec![0, 3]),
                3,
                Err("layer 3 does not exist: the model's layers are 0 to 2".to_string()),
            ),
        ] {
            assert_eq!(resolve(wanted.clone(), n_layers), blocks, "{wanted:?}");
        }
    }
}
