//! How a thread hands something to a reactor: a bounded lock-free queue and
//! one coalesced wake-up.
//!
//! Owns: [`Mailbox`] (the many sending ends) and [`Inbox`] (the one receiving
//! end). Posting never blocks and never allocates. A wake means "look at the
//! whole mailbox": the inbox clears the flag before it pops, so a message
//! posted during the popping wakes it once more. A mailbox is bounded in
//! messages and in the bytes they [weigh](Weigh).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// Wakes the thread that owns the inbox.
pub trait Wake: Send + Sync {
    /// Makes the owner look at its inboxes soon. Called once until it has.
    fn wake(&self);
}

impl Wake for mio::Waker {
    fn wake(&self) {
        if let Err(error) = mio::Waker::wake(self) {
            log::error!("a reactor could not be woken: {error}");
        }
    }
}

/// How much memory a message holds on to beyond its own size.
pub trait Weigh {
    /// In bytes.
    fn weight(&self) -> usize;
}

/// The message did not fit; here it is back.
#[derive(Debug)]
pub struct Full<M>(pub M);

/// A sending end. Clones share the queue and the flag.
pub struct Mailbox<M> {
    sender: Sender<M>,
    weight: Arc<AtomicUsize>,
    weight_max: usize,
    wake_pending: Arc<AtomicBool>,
    waker: Arc<dyn Wake>,
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Mailbox {
            sender: self.sender.clone(),
            weight: self.weight.clone(),
            weight_max: self.weight_max,
            wake_pending: self.wake_pending.clone(),
            waker: self.waker.clone(),
        }
    }
}

impl<M: Weigh> Mailbox<M> {
    /// Queues a message and wakes the owner unless a wake is on its way.
    ///
    /// # Errors
    /// [`Full`] returns the message when the queue is at its bound or its owner is gone.
    pub fn post(&self, message: M) -> Result<(), Full<M>> {
        let weight = message.weight();
        let before = self.weight.fetch_add(weight, Ordering::Relaxed);
        // A message heavier than the bound fits an empty mailbox.
        if before > 0 && before + weight > self.weight_max {
            self.weight.fetch_sub(weight, Ordering::Relaxed);
            return Err(Full(message));
        }
        if let Err(error) = self.sender.try_send(message) {
            self.weight.fetch_sub(weight, Ordering::Relaxed);
            let (TrySendError::Full(message) | TrySendError::Disconnected(message)) = error;
            return Err(Full(message));
        }
        if !self.wake_pending.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
        Ok(())
    }

    /// Messages waiting.
    pub fn depth(&self) -> usize {
        self.sender.len()
    }
}

/// The receiving end.
pub struct Inbox<M> {
    receiver: Receiver<M>,
    weight: Arc<AtomicUsize>,
    wake_pending: Arc<AtomicBool>,
}

impl<M: Weigh> Inbox<M> {
    /// Says that the wake-up was noticed. To be called before the first
    /// [`Inbox::pop`] of a turn; returns how many messages wait.
    pub fn begin(&self) -> usize {
        self.wake_pending.store(false, Ordering::Release);
        // The store must not sink below the pops: a post that saw the old
        // flag must have its message seen here.
        std::sync::atomic::fence(Ordering::SeqCst);
        self.receiver.len()
    }

    /// The next message.
    pub fn pop(&self) -> Option<M> {
        let message = self.receiver.try_recv().ok()?;
        self.weight.fetch_sub(message.weight(), Ordering::Relaxed);
        Some(message)
    }
}

/// A mailbox for `capacity` messages of `weight_max` bytes in all, whose owner is woken by `waker`.
pub fn mailbox<M: Weigh>(capacity: usize, weight_max: usize, waker: Arc<dyn Wake>) -> (Mailbox<M>, Inbox<M>) {
    let (sender, receiver) = bounded(capacity);
    let weight = Arc::new(AtomicUsize::new(0));
    let wake_pending = Arc::new(AtomicBool::new(false));
    let inbox = Inbox { receiver, weight: weight.clone(), wake_pending: wake_pending.clone() };
    (Mailbox { sender, weight, weight_max, wake_pending, waker }, inbox)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Condvar, Mutex};

    const HEAVY: usize = 1 << 20;

    impl Weigh for usize {
        fn weight(&self) -> usize {
            *self
        }
    }

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(&self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wakes_are_coalesced_until_the_owner_looks() {
        let waker = Arc::new(Counted::default());
        let (mailbox, inbox) = mailbox(8, HEAVY, waker.clone());
        let wakes = || waker.0.load(Ordering::SeqCst);
        mailbox.post(1).unwrap();
        mailbox.post(2).unwrap();
        assert_eq!(wakes(), 1);
        assert_eq!(inbox.begin(), 2);
        mailbox.post(3).unwrap();
        assert_eq!(wakes(), 2, "posted after the owner began to look");
        assert_eq!(std::iter::from_fn(|| inbox.pop()).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[test]
    fn a_full_mailbox_returns_the_message() {
        let (mailbox, inbox) = mailbox(1, HEAVY, Arc::new(Counted::default()));
        mailbox.post(1).unwrap();
        assert!(matches!(mailbox.post(2), Err(Full(2))));
        drop(inbox);
        assert!(matches!(mailbox.post(3), Err(Full(3))), "an owner that is gone takes nothing");
    }

    #[test]
    fn what_messages_hold_on_to_is_bounded_too() {
        let (mailbox, inbox) = mailbox(8, 100, Arc::new(Counted::default()));
        mailbox.post(500).unwrap();
        assert!(
            matches!(mailbox.post(1), Err(Full(1))),
            "only an empty mailbox takes what is over the bound"
        );
        assert_eq!(inbox.pop(), Some(500));
        for _ in 0..2 {
            mailbox.post(50).unwrap();
        }
        assert!(mailbox.post(1).is_err());
        inbox.pop();
        mailbox.post(1).unwrap();
    }

    /// A sleeper that only looks when woken loses nothing.
    #[test]
    fn no_wake_is_lost_between_threads() {
        #[derive(Default)]
        struct Bell(Mutex<bool>, Condvar);
        impl Wake for Bell {
            fn wake(&self) {
                *self.0.lock().unwrap() = true;
                self.1.notify_one();
            }
        }
        const MESSAGES: usize = 20_000;
        let bell = Arc::new(Bell::default());
        let (mailbox, inbox) = mailbox(MESSAGES, usize::MAX, bell.clone());
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let mailbox = mailbox.clone();
                scope.spawn(move || (0..MESSAGES / 2).for_each(|n| mailbox.post(n).unwrap()));
            }
            let mut seen = 0;
            while seen < MESSAGES {
                let mut rung = bell.0.lock().unwrap();
                while !*rung {
                    let (guard, timeout) =
                        bell.1.wait_timeout(rung, std::time::Duration::from_secs(20)).unwrap();
                    assert!(!timeout.timed_out(), "slept with {seen} of {MESSAGES} seen");
                    rung = guard;
                }
                *rung = false;
                drop(rung);
                inbox.begin();
                seen += std::iter::from_fn(|| inbox.pop()).count();
            }
        });
    }
}
