//! The tensors of a model in a GGUF file, by the names of a safetensors checkpoint.

use super::names::{Recipe, recipes};
use super::undo::Undo;
use super::{Gguf, architecture};
use crate::lm::spec::Spec;
use crate::lm::weights::TensorSource;
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// The tensors of one model.
pub struct Source {
    file: Arc<Gguf>,
    recipes: Vec<(String, Recipe)>,
    /// Index in `recipes` by tensor name.
    places: HashMap<String, usize>,
}

impl Source {
    /// The tensors of the model that `spec` describes; `spec` must match the file's own config.
    ///
    /// # Errors
    /// An unknown architecture; experts stored in an unsupported form.
    pub fn new(file: Arc<Gguf>, spec: &Spec) -> Result<Source> {
        let name = file.metadata().word("general.architecture")?.unwrap_or_default();
        let recipes = recipes(&file, spec, architecture::find(name)?)?;
        let places = recipes.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
        Ok(Source { file, recipes, places })
    }
}

impl TensorSource for Source {
    fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        self.recipes.iter().map(|(name, recipe)| (name.clone(), recipe.shape.clone())).collect()
    }

    fn read(&self, name: &str, kind: Kind, device: Device) -> Result<Tensor> {
        let place = self.places.get(name).with_context(|| format!("there is no tensor `{name}`"))?;
        let (_, recipe) = &self.recipes[*place];
        let stored = &self.file.tensors()[recipe.stored];
        let computes = recipe.undo.iter().any(Undo::computes);
        let mut tensor = self.file.read(stored, &recipe.rows, if computes { Kind::Float } else { kind })?;
        if stored.shape.len() == 1 {
            tensor = tensor.reshape(-1);
        }
        for undo in &recipe.undo {
            tensor = undo.of(&tensor)?;
        }
        Ok(tensor.to_kind(kind).contiguous().f_view(recipe.shape.as_slice())?.to_device(device))
    }
}
