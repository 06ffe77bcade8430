//! What crossing from one shard to another costs: the mailbox by itself, and there and back
//! between two threads that sleep in between. The second one is mostly the kernel waking threads.
#![expect(clippy::unwrap_used, reason = "a measurement ends where it fails")]
#![expect(clippy::disallowed_methods, reason = "it measures threads")]

use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dim::server::mesh::Mailbox;

/// As large as what shards send each other.
type Letter = [u64; 16];

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Arc::new(Unpark(thread::current())).into()
}

fn wait(mailbox: &Mailbox<Letter>, waker: &Waker) -> Vec<Letter> {
    loop {
        match mailbox.poll(&mut Context::from_waker(waker)) {
            Poll::Ready(batch) => return batch,
            Poll::Pending => thread::park(),
        }
    }
}

fn mesh(c: &mut Criterion) {
    let mut group = c.benchmark_group("mesh");
    for letters in [1_usize, 16] {
        let mailbox = Mailbox::new();
        group.throughput(Throughput::Elements(letters as u64));
        group.bench_function(format!("send and take/{letters}"), |b| {
            b.iter_batched(
                || vec![[7; 16]; letters],
                |batch: Vec<Letter>| {
                    mailbox.send(batch).unwrap();
                    mailbox.take()
                },
                BatchSize::SmallInput,
            );
        });
    }
    let (there, back) = (Mailbox::new(), Mailbox::new());
    let echo = {
        let (there, back) = (there.clone(), back.clone());
        thread::spawn(move || {
            let waker = waker();
            loop {
                let batch = wait(&there, &waker);
                let ends = batch.is_empty();
                back.send(batch).unwrap();
                if ends {
                    return;
                }
            }
        })
    };
    let waker = waker();
    group.throughput(Throughput::Elements(1));
    group.bench_function("there and back", |b| {
        b.iter(|| {
            there.send(vec![[7; 16]]).unwrap();
            wait(&back, &waker)
        });
    });
    // An empty batch ends it.
    there.send(Vec::new()).unwrap();
    echo.join().unwrap();
    group.finish();
}

criterion_group!(benches, mesh);
criterion_main!(benches);
