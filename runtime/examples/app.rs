//! What an app does with the artifact `model.bin`: `app INPUT.raw` prints the bytes of the first answer.
#![allow(unsafe_code)]

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(std::env::args().nth(1).ok_or("which input?")?)?;
    // SAFETY: the file holds code that we compiled ourselves, and nothing changes it.
    let model = unsafe { edgecc_runtime::Model::open("model.bin", Default::default())? };
    let mut session = model.session(edgecc_runtime::SessionOptions { threads: 2 })?;
    session.set_input("image", &bytes)?;
    session.run()?; // no allocation, no lock
    let answer = session.output(0);
    println!("{answer:?}");
    Ok(())
}
