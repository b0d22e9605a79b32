//! What liuzhuang13/DenseNet leaves to go on from (checkpoints.lua): `latest.t7`, which names a model and the state of
//! its optimiser, `optim.sgd`.

use std::collections::HashMap;

use super::{File, Value, find, read};
use crate::alloc::Budget;
use crate::error::Error;
use crate::keymap::Choice;

/// The content of `latest.t7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Latest {
    /// Epochs that are done.
    pub epoch: usize,
    /// The model's file, in the same folder.
    pub model: String,
    /// The optimiser's.
    pub optimiser: String,
}

impl Latest {
    /// Reads it.
    ///
    /// # Errors
    ///
    /// A file that is none, and names that lead out of its folder.
    pub fn read(bytes: &[u8]) -> Result<Self, Error> {
        let file = read(bytes)?;
        let root = root(&file);
        let name = |field: &str| {
            let name = file.text(root, field).ok_or_else(|| refuse(format!("no {field} in it; no latest.t7")))?;
            let plain = !name.is_empty() && !name.contains(['/', '\\']) && name != "..";
            if plain { Ok(name.to_owned()) } else { Err(refuse(format!("{field} {name:?} is no plain file name"))) }
        };
        let epoch = file.number(root, "epoch").filter(|epoch| (0.0..1e9).contains(epoch) && epoch.fract() == 0.0);
        let epoch = epoch.ok_or_else(|| refuse("no epoch in it; no latest.t7".into()))? as usize;
        Ok(Self { epoch, model: name("modelFile")?, optimiser: name("optimFile")? })
    }
}

/// What `optim.sgd` remembers.
#[derive(Clone, Debug, PartialEq)]
pub struct OptimState {
    /// Updates of the weights.
    pub updates: u64,
    /// The momentum of each weight by torchvision's name, with the weight's shape; empty before the first update.
    pub momentum: HashMap<String, (Vec<usize>, Vec<f32>)>,
}

impl OptimState {
    /// Reads `optimState_N.t7` beside its model. Torch keeps the momentum as one vector; the model's weights are views of
    /// another one, in the same order.
    ///
    /// # Errors
    ///
    /// A model whose weights are not one vector, and a momentum of another length.
    pub fn read(model: &[u8], state: &[u8]) -> Result<Self, Error> {
        let state = read(state)?;
        let root = root(&state);
        let updates = state.number(root, "evalCounter").filter(|count| (0.0..1e15).contains(count));
        let updates = updates.ok_or_else(|| refuse("no evalCounter in it; no state of optim.sgd".into()))? as u64;
        let Some(vector) = state.field(root, "dfdx").and_then(|value| state.tensor(value)) else {
            return Ok(Self { updates, momentum: HashMap::new() });
        };
        let vector = vector.to_f32()?;
        let momentum = places(model)?.into_iter().map(|(name, shape, offset)| {
            let count = shape.iter().product::<usize>();
            let values = offset.checked_add(count).and_then(|end| vector.get(offset..end));
            let values =
                values.ok_or_else(|| refuse(format!("its momentum of {} values ends before {name}", vector.len())))?;
            Ok((name, (shape, values.to_vec())))
        });
        let momentum: HashMap<_, _> = momentum.collect::<Result<_, Error>>()?;
        let used: usize = momentum.values().map(|(_, values)| values.len()).sum();
        if used != vector.len() {
            return Err(refuse(format!("its momentum has {} values, and the model {used} weights", vector.len())));
        }
        Ok(Self { updates, momentum })
    }
}

/// Names and shapes of a model's weights, and where each begins in the vector of all.
fn places(model: &[u8]) -> Result<Vec<(String, Vec<usize>, usize)>, Error> {
    let file = read(model)?;
    let network = find(&file, &Choice::default())?;
    let mut places = Vec::new();
    for found in file.tensors(&mut Budget::unlimited())? {
        let part = network.parts.get(&found.item).and_then(|parts| parts.first());
        let Some(part) = part.filter(|part| !part.target.contains(".running_")) else { continue };
        let shape = part.shape.clone().unwrap_or_else(|| found.tensor.shape().to_vec());
        places.push((part.target.clone(), shape, found.tensor.offset()));
    }
    places.sort_by_key(|(.., offset)| *offset);
    places.dedup_by(|a, b| a.0 == b.0);
    let mut end = 0;
    for (name, shape, offset) in &places {
        if *offset != end {
            return Err(refuse(format!("{name} is no part of one vector of weights; its momentum cannot be found")));
        }
        end += shape.iter().product::<usize>();
    }
    Ok(places)
}

fn root<'a>(file: &File<'a>) -> Value<'a> {
    file.roots().first().copied().unwrap_or(Value::Nil)
}

fn refuse(reason: String) -> Error {
    Error::Run(reason)
}
