// Were all entries behind a position still there when it was read on?
//
// Each read is one MULTI of XINFO STREAM and XREAD COUNT n, so that both see the stream at the same moment; a check
// before or after the read would either miss what was deleted in between or report entries that we had already.
// Let P be the position, read the number of entries ever added up to P, `added` the stream's entries-added.
//
// 1. Ever added behind P: added - read. Still there behind P:
//      XREAD returned fewer than n     what it returned
//      the first entry is behind P     length
//      else                            not known: trimming has not come as far as P, only XDEL can have
// 2. Where both are known they must be equal. More added than there: lost, by any means (XTRIM, MAXLEN, XDEL).
//    Fewer: the counter was set back, this is not the stream that was read.
// 3. Else max-deleted-entry-id > P is an entry behind P that XDEL took, unless it was gone when the pipeline began
//    (holesThrough). What this misses is found by 2 at the end of the stream.
// 4. With `read` unknown (a bare id, or a server below 7.0) a first entry behind P may mean a loss: it is one, unless
//    nothing was ever deleted. Below 7.0 it is none either where the position's entry was missing at the look before.
// 5. `read` becomes known as soon as 1 knows what is there: added - there.
// 6. last-generated-id < P, or no stream where one was read: rewound.

import { compareIds } from '../../binlog/stream-id.ts';
import { type Place, readThrough, ZERO_ID } from './position.ts';
import type { Snapshot } from './snapshot.ts';

export interface Look {
  /** undefined: the stream does not exist. */
  readonly snapshot: Snapshot | undefined;
  /** Entries returned by the XREAD of the same MULTI. */
  readonly found: number;
  readonly firstFound: string | undefined;
  /** XREAD returned fewer entries than it was asked for. */
  readonly sawEnd: boolean;
  /** At the look before, on this position, the position's own entry and all before it were gone. */
  readonly wasGone: boolean;
}

export type Verdict =
  | { readonly kind: 'whole'; readonly entriesRead: number | undefined }
  | { readonly kind: 'lost'; readonly count: number | undefined }
  | { readonly kind: 'rewound'; readonly why: string };

export function judge(place: Place, look: Look): Verdict {
  const { snapshot } = look;
  if (snapshot === undefined) return judgeMissing(place);
  if (compareIds(snapshot.lastGeneratedId, place.id) < 0) {
    return rewound(`its last id is ${snapshot.lastGeneratedId}`);
  }
  const { entriesRead } = place;
  const added = snapshot.entriesAdded;
  const there = stillThere(place, look, snapshot);
  if (added !== undefined && entriesRead !== undefined) {
    if (added < entriesRead) return rewound(`it has counted ${added} entries, ${entriesRead} were read`);
    if (there !== undefined) {
      const missing = added - entriesRead - there;
      if (missing < 0) return rewound(`it holds ${there} new entries and has counted ${added - entriesRead}`);
      if (missing > 0) return { kind: 'lost', count: missing };
    }
  }
  if (place.taken !== undefined && look.firstFound !== place.id) return { kind: 'lost', count: undefined };
  if (entriesRead !== undefined && added !== undefined && there !== undefined)
    return { kind: 'whole', entriesRead };
  if (deletedBehind(place, snapshot)) return { kind: 'lost', count: undefined };
  if (entriesRead === undefined && mayBeTrimmed(place, look, snapshot))
    return { kind: 'lost', count: undefined };
  if (entriesRead !== undefined || added === undefined || there === undefined)
    return { kind: 'whole', entriesRead };
  return { kind: 'whole', entriesRead: added - there };
}

/** True when the first entry is behind the position: the position's own entry is gone. */
export function positionIsGone(place: Place, snapshot: Snapshot | undefined): boolean {
  return snapshot?.firstId === undefined || compareIds(snapshot.firstId, place.id) > 0;
}

function judgeMissing(place: Place): Verdict {
  const nothingRead = place.id === ZERO_ID && (place.entriesRead ?? 0) === 0;
  return nothingRead ? { kind: 'whole', entriesRead: place.entriesRead } : rewound('it does not exist');
}

function stillThere(place: Place, look: Look, snapshot: Snapshot): number | undefined {
  if (look.sawEnd) return look.found;
  const first = snapshot.firstId;
  return first === undefined || compareIds(first, readThrough(place)) > 0 ? snapshot.length : undefined;
}

function deletedBehind(place: Place, snapshot: Snapshot): boolean {
  const deleted = snapshot.maxDeletedId;
  if (deleted === undefined || compareIds(deleted, readThrough(place)) <= 0) return false;
  return place.holesThrough === undefined || compareIds(deleted, place.holesThrough) > 0;
}

function mayBeTrimmed(place: Place, look: Look, snapshot: Snapshot): boolean {
  if (!positionIsGone(place, snapshot)) return false;
  if (place.taken === undefined && snapshot.lastGeneratedId === place.id) return false;
  if (snapshot.entriesAdded !== undefined) return snapshot.entriesAdded > snapshot.length;
  return place.id !== ZERO_ID && !look.wasGone;
}

function rewound(why: string): Verdict {
  return { kind: 'rewound', why };
}
