//! Which layers are kept: the key's forms, and which blocks they mean in a model of so many. Knows no model.

use super::Layers;
use super::problem::Problem;
use super::reader::{Form, Read, Reader};

/// So much more than a fraction of the depth still counts as it: 2/3 of 42 is block 28, whatever the rounding.
const ROUNDING: f64 = 1e-9;

impl Layers {
    /// The blocks kept in a model of `n_layers`, in ascending order, each once.
    ///
    /// A fraction `d` of the depth is block `floor(d * n_layers)`, at most the last: both 0.667 and 2/3 are block 28
    /// of 42 and block 10 of 16. Errors on a block that the model does not have.
    pub fn resolve(&self, n_layers: usize) -> Result<Vec<usize>, String> {
        let Some(last) = n_layers.checked_sub(1) else { return Err("the model has no layers".into()) };
        let block = |depth: f64| ((depth * n_layers as f64 + ROUNDING).floor() as usize).min(last);
        match self {
            Layers::All => Ok((0..n_layers).collect()),
            Layers::Every(step) => Ok((0..n_layers).step_by((*step).max(1)).collect()),
            Layers::Depth(depth) => Ok(vec![block(*depth)]),
            Layers::Range { from, to } => Ok((block(*from)..=block(*to)).collect()),
            Layers::List(list) => match list.iter().find(|layer| **layer > last) {
                Some(layer) => {
                    Err(format!("layer {layer} does not exist: the model's layers are 0 to {last}"))
                }
                None => {
                    let mut list = list.clone();
                    list.sort_unstable();
                    list.dedup();
                    Ok(list)
                }
            },
        }
    }
}

/// Reads `layers`.
pub(super) fn read(reader: &Reader<'_>) -> Read<Option<Layers>> {
    let Some(form) = reader.forms("layers")? else { return Ok(None) };
    let table = match form {
        Form::Word(_) => return Ok(Some(Layers::All)),
        Form::Integers(list) => return Ok(Some(Layers::List(list))),
        Form::Table(table) => table,
    };
    let (every, depth) = (table.maybe_integer("every"), table.maybe_number("depth"));
    let (from, to) = (table.maybe_number("from"), table.maybe_number("to"));
    let layers = match (every?, depth?, from?, to?) {
        (Some(every), None, None, None) => Layers::Every(every),
        (None, Some(depth), None, None) => Layers::Depth(depth),
        (None, None, Some(from), Some(to)) if from <= to => Layers::Range { from, to },
        (None, None, Some(from), Some(to)) => {
            let message = format!("`from` = {from} lies behind `to` = {to}");
            return reader.wrong(
                Problem::at(table.span(), message).hint(format!("write {{ from = {to}, to = {from} }}")),
            );
        }
        _ => {
            let message = "`layers` must be exactly one of its forms";
            let hint = "\"all\", [10, 14], { every = 4 }, { depth = 0.667 } or { from = 0.5, to = 0.8 }";
            return reader.wrong(Problem::at(table.span(), message).hint(hint));
        }
    };
    Ok(Some(layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_of_the_depth_are_the_published_layers() {
        for depth in [0.667, 2.0 / 3.0] {
            assert_eq!(Layers::Depth(depth).resolve(42), Ok(vec![28]));
            assert_eq!(Layers::Depth(depth).resolve(16), Ok(vec![10]));
        }
    }

    #[test]
    fn forms_resolve_to_blocks() {
        for (layers, n_layers, blocks) in [
            (Layers::All, 3, Ok(vec![0, 1, 2])),
            (Layers::Every(4), 10, Ok(vec![0, 4, 8])),
            (Layers::Every(99), 4, Ok(vec![0])),
            (Layers::Depth(0.0), 4, Ok(vec![0])),
            (Layers::Depth(1.0), 4, Ok(vec![3])),
            (Layers::Range { from: 0.5, to: 0.8 }, 10, Ok(vec![5, 6, 7, 8])),
            (Layers::Range { from: 0.0, to: 1.0 }, 2, Ok(vec![0, 1])),
            (Layers::List(vec![2, 0, 2]), 3, Ok(vec![0, 2])),
            (
                Layers::List(vec![0, 3]),
                3,
                Err("layer 3 does not exist: the model's layers are 0 to 2".to_string()),
            ),
        ] {
            assert_eq!(layers.resolve(n_layers), blocks, "{layers:?}");
        }
    }
}
