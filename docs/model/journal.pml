/*
 * lanegate: the journal, its loss, and the low-water mark.
 *
 * Ingests that may both believe that they hold the role; a journal that is lost, or comes back as it was some time ago (a
 * queue's Redis that lost the end of its AOF); the source, which forgets what it is told to; the target's identity, mark and
 * checkpoints, which with the source must be enough to go on (I5). Every step may be taken as late as its process likes.
 *
 * The log: a command of lane 0, one of lane 1, a gate of both lanes that erases the target, and so on. Rounds are single
 * commands, and a position is a seq. Lanes and gate are one step here each: what may come between is lanegate.pml's.
 *
 * Safety   the journal has no hole and nothing twice; every command takes effect once and in order; the mark is true (I6);
 *          whoever holds the ingest role never reads what the source has forgotten (I5).
 * Liveness is not looked at here.
 *
 * Negative controls, each must fail (scripts/model.mjs): NO_EPOCH NO_SECOND_LOOK ACK_HEAD NO_MARK_FENCE ERASE_MARK.
 * NO_BEHIND_CHECK alone does not fail: the second look makes up for it.
 */

#ifndef N
#define N 4
#endif
#ifndef FALLBACKS
#define FALLBACKS 1
#endif
/* Journals that are made at most: two ingests could replace each other's without end. */
#ifndef IDS
#define IDS 3
#endif
#ifndef INGESTS
#define INGESTS 2
#endif

#define IS_GATE(s) ((s) % 3 == 0)
#define NEXT(l, c) ((c) % 3 == 0 -> (c) + (l) + 1 : (c) - (c) % 3 + 3)
#define TAIL(l, h) ((h) % 3 == 0 -> (h) : ((h) % 3 > (l) -> (h) - (h) % 3 + (l) + 1 : (h) - (h) % 3))

/* The journal: holds (start, head]; the tails at `start` came with the mark. id 0: there is none. */
typedef Journal {
  byte id;
  byte epoch;
  byte start;
  byte head
};
Journal journal, copy;
byte fallbacks = FALLBACKS;

/* The target. */
byte identity = 1;
byte mark = 0;
byte ck[2];
byte ran[2];

/* The source: everything up to this is gone. */
byte forgotten = 0;

byte ids = 1;

/* An item of lane l behind checkpoint c is in the journal. */
#define HAS_NEXT(l, c) (NEXT(l, c) > journal.start && NEXT(l, c) <= journal.head)
/* ck < tail, and what comes next is not there. */
#define GAP(l, c) ((c) < TAIL(l, journal.head) && !HAS_NEXT(l, c))
#ifdef NO_SECOND_LOOK
#define HOLDS (journal.id == id && journal.epoch == epoch && journal.head == head && identity == id)
#else
#define HOLDS (journal.id == id && journal.epoch == epoch && journal.head == head && identity == id && journal.head >= mark)
#endif

inline make_anew() {
  /* the identity first: an older ingest steps down. Fenced on identity and mark. */
  atomic { old_id = journal.id; old_epoch = journal.epoch }
  if
  :: atomic { identity == id && mark == at && ids < IDS -> ids++; id = ids; identity = id }
     if
#ifdef NO_REBUILD_NAME
     :: atomic { true ->
#else
     :: atomic { journal.id == old_id && journal.epoch == old_epoch ->
#endif
          journal.id = id; journal.epoch++; journal.start = at; journal.head = at;
          epoch = journal.epoch; head = at; ok = true }
#ifndef NO_REBUILD_NAME
     :: atomic { !(journal.id == old_id && journal.epoch == old_epoch) }
#endif
     fi
  :: atomic { !(identity == id && mark == at && ids < IDS) }
  fi
}

#ifdef NO_BEHIND_CHECK
#define REACHES true
#else
#define REACHES (journal.head >= at)
#endif

#ifdef NO_GAP_CHECK
#define IS_WHOLE true
#else
#define IS_WHOLE (!GAP(0, ck[0]) && !GAP(1, ck[1]))
#endif
#ifdef NO_EPOCH
#define MINE (journal.id == id)
#else
#define MINE (journal.id == id && journal.epoch == epoch && journal.head == head)
#endif

/* Finds its place, reads on from there, and begins anew when it is refused. `at`: the mark that it read, later unused. */
proctype ingest() {
  byte id, at, epoch, head, old_id, old_epoch;
  bool ok;
  end: do
  :: atomic { journal.head < N || journal.id != identity || GAP(0, ck[0]) || GAP(1, ck[1]) || journal.head < mark ->
       id = identity; at = mark }
     if
     :: atomic { (journal.id == id && REACHES && IS_WHOLE) -> skip }
        if
        :: atomic { journal.id == id -> journal.epoch++; epoch = journal.epoch; head = journal.head }
           /* the second look: the journal may have fallen back between the look and now */
#ifdef NO_SECOND_LOOK
           ok = true
#else
           ok = (identity == id && head >= mark)
#endif
        :: atomic { journal.id != id -> skip }
        fi
     :: else -> make_anew()
     fi;
     do
     :: atomic { ok && head < N ->
          /* reading what is gone is a stop, which only the holder may speak */
          if
          :: head < forgotten -> assert(!(HOLDS)); ok = false
          :: else
          fi }
        if
        :: atomic { (ok && MINE) -> assert(journal.head == head); /* one after the other, none twice */
             head++; journal.head = head }
        :: atomic { (ok && !MINE) -> ok = false }
        :: !ok
        fi
     :: atomic { !ok || head >= N -> break }
     od;
     atomic { ok = false; id = 0; at = 0; epoch = 0; head = 0; old_id = 0; old_epoch = 0 }
  od
}

/* A lane. What it read may be of a journal that is no more; the fence is on the checkpoint alone. */
proctype lane(byte l) {
  byte c;
  end: do
  :: atomic { HAS_NEXT(l, ck[l]) && !IS_GATE(NEXT(l, ck[l])) -> c = ck[l] }
     atomic {
       if
       :: ck[l] == c -> assert(NEXT(l, ran[l]) == NEXT(l, c)); ran[l] = NEXT(l, c); ck[l] = ran[l]
       :: else
       fi;
       c = 0
     }
  od
}

#ifdef NO_MARK_FENCE
#define HELD true
#else
#define HELD (mark == held_mark && identity == held_identity)
#endif

/* A gate, fenced on all that it erases and puts back: checkpoints, identity, mark. */
proctype gate() {
  byte s, held_mark, held_identity;
  end: do
  :: atomic { IS_GATE(NEXT(0, ck[0])) && NEXT(0, ck[0]) == NEXT(1, ck[1]) && HAS_NEXT(0, ck[0]) && HAS_NEXT(1, ck[1]) ->
       s = NEXT(0, ck[0]); held_mark = mark; held_identity = identity }
     atomic {
       if
       :: (NEXT(0, ck[0]) == s && NEXT(1, ck[1]) == s && HELD) -> assert(NEXT(0, ran[0]) == s && NEXT(1, ran[1]) == s);
          ran[0] = s; ran[1] = s; ck[0] = s; ck[1] = s;
#ifdef ERASE_MARK
          mark = 0
#else
          mark = held_mark; identity = held_identity
#endif
       :: else
       fi;
       s = 0; held_mark = 0; held_identity = 0
     }
  od
}

#define FIRST_LEFT(l, c, h) ((c) < TAIL(l, h) -> NEXT(l, c) - 1 : (h))
#define LESS(a, b) ((a) < (b) -> (a) : (b))

/* The low-water mark: identity and mark are fenced, the checkpoints read behind the fence, the journal looked at last. */
proctype marker() {
  byte id, held, c0, c1, next;
  end: do
  :: atomic { journal.id == identity && mark < N -> id = identity; held = mark; c0 = ck[0]; c1 = ck[1] }
     atomic {
       if
       :: journal.id == id && !GAP(0, c0) && !GAP(1, c1) ->
          next = LESS(FIRST_LEFT(0, c0, journal.head), FIRST_LEFT(1, c1, journal.head));
          /* A position in front of the journal's start is not known. */
          if :: next < journal.start -> next = 0 :: else fi
       :: else
       fi
     }
     atomic {
       if
       :: next > held && identity == id && mark == held ->
          mark = next;
          assert(NEXT(0, ran[0]) > mark && NEXT(1, ran[1]) > mark) /* everything up to it has run: I6 */
       :: else
       fi;
       id = 0; held = 0; c0 = 0; c1 = 0; next = 0
     }
  od
}

proctype source() {
  end: do
#ifdef ACK_HEAD
  :: atomic { forgotten < journal.head -> forgotten = journal.head }
#else
  :: atomic { forgotten < mark -> forgotten = mark }
#endif
  od
}

/* The queue's Redis: is emptied, or comes back as it was. */
proctype nemesis() {
  atomic { copy.id = journal.id; copy.epoch = journal.epoch; copy.start = journal.start; copy.head = journal.head }
  end: do
  :: atomic { fallbacks > 0 -> fallbacks--;
       journal.id = copy.id; journal.epoch = copy.epoch; journal.start = copy.start; journal.head = copy.head }
  :: atomic { fallbacks > 0 -> fallbacks--;
       journal.id = 0; journal.epoch = 0; journal.start = 0; journal.head = 0 }
  od
}

init {
  atomic {
    journal.id = 1; journal.epoch = 1;
    run ingest();
#if INGESTS > 1
    run ingest();
#endif
    run lane(0); run lane(1); run gate(); run marker(); run source(); run nemesis();
  }
}
