//! Axes of a convolution. Taps are one polynomial, or groups that are one each: then the points of an axis are those of all
//! groups, and outputs are sums of the groups'. So a convolution with a stride of 2 is one of even inputs and even taps plus one
//! of odd ones, and many taps take few points at a time.

use super::transform::{Polynomial, Step, Transform, Writer};

/// How the taps of an axis are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Groups {
    /// One group.
    One,
    /// Even and odd taps, of a convolution with a stride of 2.
    Strided,
    /// The first half of the taps, which is not the smaller one, and the second: halves bear few points.
    Halved,
}

/// One axis of a convolution: so many taps, computed at so many points. One point and one tap leave the axis as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Points of all groups.
    pub points: i64,
    /// Taps of all groups.
    pub taps: i64,
    /// The groups.
    pub groups: Groups,
}

/// Taps of an axis, and the inputs that they meet.
#[derive(Clone, Copy)]
struct Group {
    /// The first tap, and the first input of a tile.
    first: i64,
    /// From one tap to the next, and from one input to the next.
    step: i64,
    taps: i64,
}

impl Group {
    /// Outputs that take this point at least.
    fn least_outputs(&self, point: i64) -> i64 {
        (point - self.taps + 2).max(1)
    }
}

impl Axis {
    /// Inputs from one output to the next.
    pub const fn step(self) -> i64 {
        match self.groups {
            Groups::One | Groups::Halved => 1,
            Groups::Strided => 2,
        }
    }

    /// Outputs of a whole tile.
    pub const fn outputs(self) -> i64 {
        (self.points - self.taps) / self.number_of_groups() + 1
    }

    /// Points that so many outputs take.
    pub const fn points_of(self, outputs: i64) -> i64 {
        (outputs - 1) * self.number_of_groups() + self.taps
    }

    /// Inputs that so many outputs meet.
    pub const fn inputs_of(self, outputs: i64) -> i64 {
        (outputs - 1) * self.step() + self.taps
    }

    /// Inputs from one whole tile to the next.
    pub const fn advance(self) -> i64 {
        self.outputs() * self.step()
    }

    const fn number_of_groups(self) -> i64 {
        match self.groups {
            Groups::One => 1,
            Groups::Strided | Groups::Halved => 2,
        }
    }

    fn groups(self) -> Vec<Group> {
        let taps = self.taps;
        let (larger, smaller) = (taps - taps / 2, taps / 2);
        match self.groups {
            Groups::One => vec![Group { first: 0, step: 1, taps }],
            Groups::Strided => {
                vec![Group { first: 0, step: 2, taps: larger }, Group { first: 1, step: 2, taps: smaller }]
            }
            Groups::Halved => {
                vec![Group { first: 0, step: 1, taps: larger }, Group { first: larger, step: 1, taps: smaller }]
            }
        }
    }

    fn polynomial(self, group: &Group) -> Polynomial {
        Polynomial { points: self.outputs() + group.taps - 1, taps: group.taps }
    }

    /// The points in order, each as its group and its place there: fewer outputs leave out points from the end.
    fn order(self, outputs: i64) -> Vec<(usize, usize)> {
        let mut points: Vec<(i64, usize, usize)> = Vec::new();
        for (number, group) in self.groups().iter().enumerate() {
            let all = 0..self.polynomial(group).points;
            points.extend(all.map(|point| (group.least_outputs(point), number, point as usize)));
        }
        points.sort_unstable();
        points.into_iter().filter(|&(least, ..)| least <= outputs).map(|(_, group, point)| (group, point)).collect()
    }

    /// Inputs to the numbers at the points.
    pub fn input(self, outputs: i64) -> Transform {
        let groups = self.groups();
        let mut joined = Writer::new(self.inputs_of(outputs) as usize);
        let inputs = |group: &Group| {
            let (first, step) = (group.first as usize, group.step as usize);
            (0..(outputs + group.taps - 1) as usize).map(move |place| first + place * step)
        };
        let mut numbers: Vec<Vec<usize>> = Vec::new();
        for (number, group) in groups.iter().enumerate() {
            let is_read_later =
                |input: usize| groups[number + 1..].iter().any(|later| inputs(later).any(|i| i == input));
            let operands: Vec<usize> =
                inputs(group).map(|input| if is_read_later(input) { joined.copy(input) } else { input }).collect();
            numbers.push(joined.append(&self.polynomial(group).input(outputs), operands));
        }
        let results = self.order(outputs).into_iter().map(|(group, point)| numbers[group][point]).collect();
        joined.finish(results)
    }

    /// Sums at the points to outputs.
    pub fn output(self, outputs: i64) -> Transform {
        let order = self.order(outputs);
        let mut joined = Writer::new(order.len());
        let mut results: Vec<usize> = Vec::new();
        for (number, group) in self.groups().iter().enumerate() {
            let place = |point: usize| order.iter().position(|&other| other == (number, point)).unwrap_or(0);
            let operands = (0..(outputs + group.taps - 1) as usize).map(place).collect();
            let of_group = joined.append(&self.polynomial(group).output(outputs), operands);
            if results.is_empty() {
                results = of_group;
                continue;
            }
            let sums = results.iter().zip(of_group).map(|(&to, slot)| Step::Add(to, to, slot));
            joined.steps.extend(sums);
        }
        joined.finish(results)
    }

    /// The rows of G, one for each point.
    pub fn weights(self) -> Vec<Vec<f64>> {
        let groups = self.groups();
        let of_groups: Vec<Vec<Vec<f64>>> = groups.iter().map(|group| self.polynomial(group).weights()).collect();
        let row = |(number, point): (usize, usize)| {
            let (group, mut row) = (groups[number], vec![0.0; self.taps as usize]);
            for (tap, &factor) in (0..).zip(&of_groups[number][point]) {
                row[(group.first + tap * group.step) as usize] = factor;
            }
            row
        };
        self.order(self.outputs()).into_iter().map(row).collect()
    }
}

/// Transforms one after the other over the same slots.
impl Writer {
    fn copy(&mut self, from: usize) -> usize {
        let to = self.take();
        self.steps.push(Step::Copy(to, from));
        to
    }

    /// Appends a transform over these operands, which die, and gives the slots of its results.
    fn append(&mut self, transform: &Transform, operands: Vec<usize>) -> Vec<usize> {
        let mut slots = operands;
        while slots.len() < transform.slots {
            let slot = self.take();
            slots.push(slot);
        }
        self.steps.extend(transform.steps.iter().map(|step| match *step {
            Step::Add(to, a, b) => Step::Add(slots[to], slots[a], slots[b]),
            Step::Subtract(to, a, b) => Step::Subtract(slots[to], slots[a], slots[b]),
            Step::Scale(to, a, factor) => Step::Scale(slots[to], slots[a], factor),
            Step::AddScaled(to, a, factor) => Step::AddScaled(slots[to], slots[a], factor),
            Step::Copy(to, a) => Step::Copy(slots[to], slots[a]),
        }));
        let results: Vec<usize> = transform.results.iter().map(|&slot| slots[slot]).collect();
        self.free.extend(slots.into_iter().filter(|slot| !results.contains(slot)));
        results
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXES: [(i64, i64, Groups); 12] = [
        (1, 1, Groups::One),
        (4, 3, Groups::One),
        (6, 3, Groups::One),
        (8, 3, Groups::One),
        (6, 5, Groups::One),
        (8, 5, Groups::One),
        (8, 7, Groups::One),
        (5, 3, Groups::Strided),
        (7, 3, Groups::Strided),
        (9, 5, Groups::Strided),
        (9, 7, Groups::Halved),
        (11, 7, Groups::Halved),
    ];

    fn apply(transform: &Transform, operands: &[f64]) -> Vec<f64> {
        let mut slots = operands.to_vec();
        slots.resize(transform.slots, f64::NAN);
        for step in &transform.steps {
            match *step {
                Step::Add(to, a, b) => slots[to] = slots[a] + slots[b],
                Step::Subtract(to, a, b) => slots[to] = slots[a] - slots[b],
                Step::Scale(to, a, factor) => slots[to] = factor * slots[a],
                Step::AddScaled(to, a, factor) => slots[to] += factor * slots[a],
                Step::Copy(to, a) => slots[to] = slots[a],
            }
        }
        transform.results.iter().map(|&slot| slots[slot]).collect()
    }

    #[test]
    fn every_number_of_outputs_is_a_correlation() {
        for (points, taps, groups) in AXES {
            let axis = Axis { points, taps, groups };
            for outputs in 1..=axis.outputs() {
                let d: Vec<f64> = (0..axis.inputs_of(outputs)).map(|n| ((n * 37 % 11) as f64 - 4.0) / 3.0).collect();
                let g: Vec<f64> = (0..taps).map(|n| ((n * 29 % 7) as f64 - 2.5) / 2.0).collect();
                let inputs = apply(&axis.input(outputs), &d);
                assert_eq!(inputs.len(), axis.points_of(outputs) as usize);
                let product = |(d, row): (&f64, &Vec<f64>)| d * row.iter().zip(&g).map(|(a, b)| a * b).sum::<f64>();
                let sums: Vec<f64> = inputs.iter().zip(&axis.weights()).map(product).collect();
                let actual = apply(&axis.output(outputs), &sums);
                assert_eq!(actual.len(), outputs as usize);
                for (output, actual) in actual.iter().enumerate() {
                    let first = output * axis.step() as usize;
                    let expected: f64 = g.iter().zip(&d[first..]).map(|(g, d)| g * d).sum();
                    assert!((actual - expected).abs() < 1e-9, "{axis:?} {outputs} {output}: {actual} {expected}");
                }
            }
        }
    }

    #[test]
    fn whole_tiles_take_few_steps() {
        let steps = |points, taps, groups| {
            let axis = Axis { points, taps, groups };
            [axis.input(axis.outputs()), axis.output(axis.outputs())].map(|t| (t.steps.len(), t.slots))
        };
        assert_eq!(steps(4, 3, Groups::One), [(4, 5), (4, 5)]);
        assert_eq!(steps(6, 3, Groups::One), [(14, 7), (10, 7)]);
        assert_eq!(steps(8, 3, Groups::One), [(28, 10), (22, 10)]);
        assert_eq!(steps(5, 3, Groups::Strided), [(3, 5), (4, 5)]);
        assert_eq!(steps(7, 3, Groups::Strided), [(4, 8), (7, 8)]);
    }
}
