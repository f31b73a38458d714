/*
 * lanegate: the lanes and the gate.
 *
 * One log, applied by processes that share nothing but the journal, the target and hints (jobs, pauses). Between any two
 * steps a process may stand still for as long as it likes and go on with what it read before: that is a zombie, and
 * interleaving brings it about by itself. A process may also die (CRASHES times), a job or a wake-up be lost (LOSSES times),
 * the target fall back to an older state of itself (with -DFAILOVER, once).
 *
 * The log repeats one period: every lane twice, in turn, and a gate of all lanes that erases the target (FLUSHALL).
 * With two lanes: 0 1 0 1 G 0 1 0 1 G ...; seq 1 is the first command, N the last.
 *
 * Safety   every command takes effect once and in its lane's order; a gate, when all before it have and none behind it has:
 *          the assertions of took() and gate_took(), which look at what the target really ran, not at checkpoints.
 * Liveness everything is applied in the end: no invalid end state, and `applied` under weak fairness.
 *
 * Negative controls, each must fail (scripts/model.mjs): PAUSE_FIRST NO_LANE_FENCE NO_GATE_FENCE NO_REWRITE MISSING_IS_ZERO
 * NO_GATE_IDENTITY NO_ARRIVAL ACK_FIRST APPLY_FIRST ITEM_PREDECESSOR NO_WATCHDOG
 */

#ifndef LANES
#define LANES 2
#endif
#ifndef N
#define N 7
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef LOSSES
#define LOSSES 1
#endif
/* Processes per lane: the second one is what a zombie is to the first. */
#ifndef WORKERS
#define WORKERS 2
#endif

#define PERIOD (2 * LANES + 1)
#define MISSING 255

#define IS_GATE(s) ((s) % PERIOD == 0)
/* The seq that follows c in lane l, which c belongs to (0: in front of the log). */
#define NEXT(l, c) ((c) % PERIOD == 0 -> (c) + (l) + 1 : ((c) % PERIOD <= LANES -> (c) + LANES : (c) - (c) % PERIOD + PERIOD))
/* The seq in front of gate s in lane l. */
#define PREVIOUS(s, l) ((s) - PERIOD + LANES + (l) + 1)

#if LANES == 2
#define SET(what, value) what[0] = value; what[1] = value
#else
#define SET(what, value) what[0] = value; what[1] = value; what[2] = value
#endif

/* The journal, at the queue: everything up to head is in the lane logs. */
byte head = 0;
/*
 * Hints, at the queue: jobs, and the gate's pause of the lanes. Safety must not rest on them: without -DHINTS any process
 * may begin anything at any time, which is more than hints that are lost, late or wrong can bring about.
 */
#ifdef HINTS
bool job[LANES];
bool paused[LANES];
byte losses = LOSSES;
#define MAY_BEGIN(l) (job[l] && !paused[l])
#define BEGIN(l) job[l] = false
#define WAKE(l) job[l] = true
#define PAUSE(yes) SET(paused, yes)
#define WAKE_ALL SET(job, true)
#else
#define MAY_BEGIN(l) BEHIND(l)
#define BEGIN(l) skip
#define PAUSE(yes) skip
#define WAKE_ALL skip
#endif
#ifdef NO_GATE_IDENTITY
byte gate_noted = 0;
#endif

/* The target: the checkpoints that it keeps, and what it ran (a ghost that no process reads). */
byte ck[LANES];
byte ran[LANES];
#ifdef FAILOVER
/* A replica's state, and how often it was promoted: sessions with the old primary are gone. */
byte ck_old[LANES];
byte ran_old[LANES];
bool promoted = false;
#define ALIVE(e) ((e) == promoted)
#else
#define ALIVE(e) true
#endif

byte crashes = CRASHES;

/* Last seq of lane l in the log as a whole, and in the journal. */
#define TAIL_OF(l, h) ((h) % PERIOD == 0 -> (h) : ((h) % PERIOD > LANES + (l) -> (h) - (h) % PERIOD + LANES + (l) + 1 : ((h) % PERIOD > (l) -> (h) - (h) % PERIOD + (l) + 1 : (h) - (h) % PERIOD)))
#define TAIL(l) TAIL_OF(l, head)
#ifdef MISSING_IS_ZERO
#define BEHIND(l) (ck[l] == MISSING || ck[l] < TAIL(l))
#else
#define BEHIND(l) (ck[l] != MISSING && ck[l] < TAIL(l))
#endif

#if LANES == 2
#define ALL(what) (what(0) && what(1))
#define ANY(what) (what(0) || what(1))
#else
#define ALL(what) (what(0) && what(1) && what(2))
#define ANY(what) (what(0) || what(1) || what(2))
#endif

/* N ends behind one command of each lane. */
#define FINISHED(l) (ck[l] == N - LANES + (l) + 1)
#define applied (head == N && ALL(FINISHED))

inline took(l, s) {
  assert(NEXT(l, ran[l]) == s); /* once, in order, no hole: I1, I2 */
  ran[l] = s
}

inline gate_took(s) {
  /* all before it and none behind it: I3 */
  assert(NEXT(0, ran[0]) == s && NEXT(1, ran[1]) == s);
  ran[0] = s; ran[1] = s;
#if LANES == 3
  assert(NEXT(2, ran[2]) == s); ran[2] = s;
#endif
}

/* The watched keys are as they were when all lanes stood at the marker of s. */
#define AT_MARKER(l) (ck[l] == PREVIOUS(s, l))
#define NOT_ARRIVED(l) (ck[l] == MISSING || ck[l] < PREVIOUS(s, l))
#define PASSED(l) (ck[l] != MISSING && ck[l] >= s)
#ifdef FAILOVER
#define REMEMBER_SESSION era = promoted
#else
#define REMEMBER_SESSION skip
#endif

#ifdef NO_GATE_IDENTITY
#define CLOSED (gate_noted >= s)
#else
#define CLOSED ALL(PASSED)
#endif

inline execute_gate() {
  if
#if defined(NO_GATE_FENCE)
  :: ALIVE(era)
#elif defined(NO_ARRIVAL)
  :: ALIVE(era) && !CLOSED
#else
  :: ALIVE(era) && ALL(AT_MARKER)
#endif
    -> gate_took(s);
#if defined(NO_REWRITE) || defined(MISSING_IS_ZERO)
       SET(ck, MISSING)
#elif defined(NO_GATE_IDENTITY)
       skip /* that it ran is noted at the queue, in a step of its own */
#else
       SET(ck, s)
#endif
  :: else
  fi
}

/* Any process, any number of times: a lane that stands at the marker, or the gate's own job. */
inline run_gate() {
#ifdef PAUSE_FIRST
  atomic { if :: !CLOSED -> PAUSE(true); go = true :: else fi }
  if :: atomic { go && !ANY(NOT_ARRIVED) -> REMEMBER_SESSION } :: !go fi;
#else
  /* verify: one read of all checkpoints, which the EXEC is fenced on */
  atomic { REMEMBER_SESSION;
#ifdef NO_ARRIVAL
    go = !CLOSED
#else
    go = !CLOSED && !ANY(NOT_ARRIVED)
#endif
  }
  atomic { if :: go -> PAUSE(true) :: else fi }
#endif
  if
  :: atomic { go -> execute_gate() }
#ifdef NO_GATE_IDENTITY
     if
     :: atomic { crashes > 0 -> crashes--; go = false }
     :: atomic { gate_noted < s -> gate_noted = s }
     :: gate_noted >= s
     fi
#endif
  :: atomic { go && crashes > 0 -> crashes--; go = false } /* dies with the lanes paused */
  :: !go
  fi;
#ifdef HINTS
  if
  :: atomic { go -> PAUSE(false); WAKE_ALL }
  :: atomic { go && crashes > 0 -> crashes-- }
  :: !go
  fi;
#endif
  go = false
}

#if defined(NO_LANE_FENCE)
#define SAME(l) true
#elif defined(MISSING_IS_ZERO)
#define SAME(l) (ck[l] == at || (ck[l] == MISSING && at == 0))
#else
#define SAME(l) (ck[l] == at)
#endif

/* Jobs of lane l, one after the other. `at`: the checkpoint that it read; `first` .. `last`: its chunk. */
proctype worker(byte l) {
  byte at, first, last;
  byte s;
  bool go, era;
  end: do
  :: atomic { MAY_BEGIN(l) -> BEGIN(l); at = ck[l]; REMEMBER_SESSION;
#ifdef MISSING_IS_ZERO
       if :: at == MISSING -> at = 0 :: else fi
#endif
     }
     do
     :: atomic { at == MISSING -> break } /* stops and says so */
     :: atomic { at != MISSING && NEXT(l, at) > head -> break } /* caught up, as far as it sees */
     :: atomic { at != MISSING && NEXT(l, at) <= head && IS_GATE(NEXT(l, at)) -> s = NEXT(l, at) }
        run_gate();
#ifdef NO_GATE_IDENTITY
        atomic { if :: gate_noted >= s && ck[l] == at -> ck[l] = s :: else fi }
#endif
        break /* its job ends; whoever closes the gate wakes it */
     :: atomic { at != MISSING && NEXT(l, at) <= head && !IS_GATE(NEXT(l, at)) -> first = NEXT(l, at); last = first;
          /* a chunk of one command, or of two */
          if
          :: NEXT(l, last) <= head && !IS_GATE(NEXT(l, last)) -> last = NEXT(l, last)
          :: true
          fi }
#ifdef ACK_FIRST
        atomic { if :: ck[l] == at -> ck[l] = last :: else -> break fi }
        if :: atomic { crashes > 0 -> crashes--; break } :: true fi;
        atomic { took(l, first); if :: first < last -> took(l, last) :: else fi; at = last }
#elif defined(APPLY_FIRST)
        atomic { if :: ck[l] == at -> took(l, first); if :: first < last -> took(l, last) :: else fi :: else -> break fi }
        if :: atomic { crashes > 0 -> crashes--; break } :: true fi;
        atomic { ck[l] = last; at = last }
#else
        if
        :: atomic { ALIVE(era) && SAME(l) -> /* EXEC: data and checkpoint */
             took(l, first);
             if :: first < last -> took(l, last) :: else fi;
             ck[l] = last; at = last }
        :: atomic { !(ALIVE(era) && SAME(l)) -> break } /* refused: it is somebody else's by now */
        :: atomic { crashes > 0 -> crashes--; break } /* dies, or its connection does, in front of EXEC */
#ifdef ITEM_PREDECESSOR
        :: atomic { crashes > 0 && ck[l] == at && first == last && NEXT(l, last) <= head && !IS_GATE(NEXT(l, last)) ->
             /* this chunk is lost, and the next one is let through by the item's predecessor instead of its own */
             crashes--; last = NEXT(l, last); took(l, last); ck[l] = last; at = last }
#endif
        fi
#endif
     od;
     atomic { at = 0; first = 0; last = 0; s = 0; era = false }
  od
}

#ifndef NO_GATE_JOB
#define OPEN_GATE(l) (ck[l] != MISSING && ck[l] - ck[l] % PERIOD + PERIOD <= head)
/* The gate's own job: it may begin at any time, also before the lanes have arrived. */
proctype gate_worker() {
  byte s;
  bool go, era;
  end: do
  :: atomic { OPEN_GATE(0) -> s = ck[0] - ck[0] % PERIOD + PERIOD }
     run_gate();
     atomic { s = 0; era = false }
  od
}

#endif

/* Commits rounds: the commands up to the gate, the gate with what stands before it, and what follows. */
proctype ingest() {
  do
  :: atomic { head < N -> if :: head % PERIOD == 0 -> head = head + LANES :: else -> head = head + LANES + 1 fi }
#ifdef HINTS
     /* The wake-ups are a step of their own. */
     atomic { WAKE_ALL }
#endif
  :: atomic { head == N -> break }
  od
}

#ifdef HINTS
/* Announces whoever is behind and has no job, and lifts pauses: whether their owner is gone it cannot know. */
#ifndef NO_WATCHDOG
proctype watchdog(byte l) {
  end: do
  :: atomic { BEHIND(l) && !job[l] && !paused[l] -> job[l] = true }
#ifndef PAUSE_FIRST
  :: atomic { paused[l] -> paused[l] = false }
#endif
  od
}
#endif

proctype thief(byte l) {
  end: do
  :: atomic { losses > 0 && job[l] -> losses--; job[l] = false }
  od
}
#endif

#ifdef FAILOVER
/* A replica that has fallen behind is promoted: data and checkpoints go back together. */
proctype failover() {
  atomic { ck_old[0] = ck[0]; ck_old[1] = ck[1]; ran_old[0] = ran[0]; ran_old[1] = ran[1] }
  atomic { promoted = true; ck[0] = ck_old[0]; ck[1] = ck_old[1]; ran[0] = ran_old[0]; ran[1] = ran_old[1];
    ck_old[0] = 0; ck_old[1] = 0; ran_old[0] = 0; ran_old[1] = 0 }
}
#endif

/* Waits for the end: where it cannot be reached, everybody stands still and this is the invalid end state. */
proctype observer() {
  (applied)
}

init {
  atomic {
    run ingest();
    run worker(0); run worker(1);
#if WORKERS == 2
    run worker(0); run worker(1);
#endif
#if LANES == 3
    run worker(2);
#endif
#ifndef NO_GATE_JOB
    run gate_worker();
#endif
#ifdef HINTS
#ifndef NO_WATCHDOG
    run watchdog(0); run watchdog(1);
#endif
    run thief(0); run thief(1);
#endif
#ifdef FAILOVER
    run failover();
#endif
    run observer();
  }
}

ltl live { <> [] (applied) }
