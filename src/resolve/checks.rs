//! Models that are read again with other arithmetic, to see how far that moves what is claimed. Opens no file.

use super::Model;
use crate::config::Experiment;
use crate::lm::Dtype;
use crate::stages::analysis::steering::nearest_two_thirds;

/// Of each model whose arithmetic is not in f32 one whose is, and itself, to be given the same stories.
pub(super) fn of(experiment: &Experiment, models: &[Model]) -> Vec<Model> {
    let rounded = models.iter().enumerate().filter(|(_, model)| model.compute_dtype != Dtype::F32);
    let rounded = rounded.filter(|_| experiment.check_precision > 0);
    let both = rounded.flat_map(|(at, model)| {
        [model.compute_dtype, Dtype::F32].map(|compute_dtype| Model {
            name: format!("{}@{}", model.name, compute_dtype.name()),
            checks: Some(at),
            compute_dtype,
            layers: vec![nearest_two_thirds(&model.layers, model.spec.n_layers())],
            ..model.clone()
        })
    });
    both.collect()
}
