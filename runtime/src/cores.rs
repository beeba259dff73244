//! The cores of this machine and how fast they are, as Linux and Android tell; elsewhere all cores are alike.

use std::fs;
use std::path::Path;

/// Below this share of the fastest core's capacity, which the kernel has measured, a core is not a big one.
const BIG_CAPACITY: f32 = 0.5;
/// The same share of the highest frequency, where that is all there is: it says nothing of what a core does in a cycle.
const BIG_FREQUENCY: f32 = 0.8;
/// More threads than this are to be asked for: a step of a phone's model has no work for them.
const MOST_BIG_CORES: usize = 8;

/// A core that this process may use.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Core {
    /// As a share of the fastest core's.
    pub speed: f32,
    is_big: bool,
    /// All cores of this speed, by number; empty where cores are alike.
    class: Vec<usize>,
}

/// The number of fast cores that this process may use, at most 8: on a phone those that are not there to save energy.
pub fn big_cores() -> usize {
    let cores = cores();
    let big = if cores.is_empty() { available() } else { cores.iter().filter(|core| core.is_big).count() };
    big.clamp(1, available()).min(MOST_BIG_CORES)
}

/// The fastest cores, at most so many; none where nothing is known of them.
pub(crate) fn fastest(count: usize) -> Vec<Core> {
    let mut cores = cores();
    cores.truncate(count);
    cores
}

fn available() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get())
}

fn cores() -> Vec<Core> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    read(Path::new("/sys/devices/system/cpu"), &allowed.map(numbers).unwrap_or_default())
}

/// Numbers as Linux lists them: `0-3,6`.
fn numbers(list: &str) -> Vec<usize> {
    let part = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(part).flatten().collect()
}

/// The allowed cores, fastest first; none unless the system tells the speed of each.
fn read(folder: &Path, allowed: &[usize]) -> Vec<Core> {
    let figures = |file: &str| -> Option<Vec<f32>> {
        let figure = |number| fs::read_to_string(folder.join(format!("cpu{number}/{file}"))).ok()?.trim().parse().ok();
        allowed.iter().map(|number| figure(number).map(|figure: u32| figure as f32)).collect()
    };
    let capacities = figures("cpu_capacity").map(|figures| (figures, BIG_CAPACITY));
    let known = capacities.or_else(|| Some((figures("cpufreq/cpuinfo_max_freq")?, BIG_FREQUENCY)));
    let Some((figures, big)) = known else { return Vec::new() };
    let most = figures.iter().copied().fold(1.0, f32::max);
    let class = |figure: f32| {
        let same = allowed.iter().zip(&figures).filter(|&(_, &other)| other == figure).map(|(&number, _)| number);
        let class: Vec<usize> = same.collect();
        if class.len() == allowed.len() { Vec::new() } else { class }
    };
    let mut cores: Vec<Core> = Vec::new();
    for &figure in &figures {
        let core = Core { speed: (figure / most).max(0.01), is_big: figure >= big * most, class: class(figure) };
        cores.insert(cores.partition_point(|faster| faster.speed >= core.speed), core);
    }
    cores
}

impl Core {
    /// Keeps the calling thread to the cores of this speed. Where the system refuses, threads run where it puts them.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    #[allow(unsafe_code)]
    pub fn keep_thread(&self) {
        if self.class.is_empty() {
            return;
        }
        // SAFETY: a set of cores is plain bits.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for &number in self.class.iter().filter(|&&number| number < libc::CPU_SETSIZE as usize) {
            // SAFETY: the number lies within the set.
            unsafe { libc::CPU_SET(number, &mut set) };
        }
        // SAFETY: the set is alive during the call; 0 is the calling thread.
        unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) };
    }

    /// Threads run where the system puts them.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub fn keep_thread(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine's folder with a file for each core.
    fn machine(name: &str, file: &str, figures: &[u32]) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("edgecc-cores-{}-{name}", std::process::id()));
        for (number, figure) in figures.iter().enumerate() {
            let path = folder.join(format!("cpu{number}/{file}"));
            fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
            fs::write(path, format!("{figure}\n")).expect("it is written");
        }
        folder
    }

    fn speeds(cores: &[Core]) -> Vec<f32> {
        cores.iter().map(|core| (core.speed * 100.0).round() / 100.0).collect()
    }

    fn big(cores: &[Core]) -> usize {
        cores.iter().filter(|core| core.is_big).count()
    }

    #[test]
    fn capacities_tell_the_big_cores() {
        let folder = machine("capacity", "cpu_capacity", &[250, 250, 250, 250, 768, 768, 768, 1024]);
        let cores = read(&folder, &numbers(" 0-7\n"));
        assert_eq!(speeds(&cores), [1.0, 0.75, 0.75, 0.75, 0.24, 0.24, 0.24, 0.24]);
        assert_eq!(big(&cores), 4);
        assert_eq!((cores[0].class.as_slice(), cores[1].class.as_slice()), (&[7][..], &[4, 5, 6][..]));
        let confined = read(&folder, &numbers("0-2,5"));
        assert_eq!((speeds(&confined), big(&confined)), (vec![1.0, 0.33, 0.33, 0.33], 1));
        fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn frequencies_stand_in_for_capacities() {
        let figures = [1_800_000, 1_800_000, 2_420_000, 2_840_000];
        let folder = machine("frequency", "cpufreq/cpuinfo_max_freq", &figures);
        let cores = read(&folder, &[0, 1, 2, 3]);
        assert_eq!((speeds(&cores), big(&cores)), (vec![1.0, 0.85, 0.63, 0.63], 2));
        assert_eq!(read(&folder, &[0, 1, 2, 3, 4]), [], "nothing is known of core 4");
        fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn equal_cores_have_no_classes() {
        let folder = machine("equal", "cpu_capacity", &[1024, 1024]);
        let cores = read(&folder, &[0, 1]);
        assert_eq!((speeds(&cores), big(&cores)), (vec![1.0, 1.0], 2));
        assert!(cores.iter().all(|core| core.class.is_empty()));
        fs::remove_dir_all(folder).expect("it goes");
    }

    #[test]
    fn this_machine_has_a_big_core() {
        assert!((1..=available()).contains(&big_cores()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_thread_keeps_to_its_class() {
        let allowed = || {
            let status = fs::read_to_string("/proc/thread-self/status").expect("a status");
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(numbers).expect("a list")
        };
        let first = allowed()[0];
        let kept = std::thread::spawn(move || {
            Core { speed: 1.0, is_big: true, class: vec![first] }.keep_thread();
            allowed()
        });
        assert_eq!(kept.join().expect("it ends"), [first]);
    }
}
