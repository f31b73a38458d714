// What `lanegate check` says of a pipeline that has begun, beyond what a start looks at (preflight.ts): do the options
// given now route as the pipeline does, does anything stand still, and is the source whole behind the place where reading
// goes on? Looks only; changes nothing.

import type { Redis } from 'ioredis';
import { routingOf } from '../../processors/startup.ts';
import { CommandTable } from '../binlog/command-table.ts';
import { Journal } from '../journal/journal.ts';
import { Records } from '../journal/records.ts';
import { StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';
import type { Position, Source } from '../sources/source.ts';
import { ControlKeys, type Identity, type Mark, parseIdentity, parseMark } from '../target/control.ts';
import type { FencedSession } from '../target/session.ts';
import type { Finding } from './preflight.ts';

export interface InspectionOptions {
  readonly name: string;
  readonly queue: Redis | undefined;
  readonly target: FencedSession;
  readonly source: Source | undefined;
  /** As a start of these options would have it. */
  readonly policy: Readonly<Record<string, unknown>>;
  readonly describeStop: (place: string, stop: StopFacts) => string;
}

type StopFacts = Parameters<Records['stop']>[1];

/** Nothing of a pipeline that has not begun. Throws only when a connection is lost. */
export async function inspect(options: InspectionOptions): Promise<Finding[]> {
  const { name, queue, target, source, policy } = options;
  const control = new ControlKeys(name);
  const [identityText = null, markText = null] = await target.read([control.identity, control.mark]);
  const identity = parseIdentity(identityText ?? '');
  const mark = parseMark(markText ?? '');
  const stops = queue === undefined ? [] : await stopFindings(name, queue, options.describeStop);
  if (identity === undefined || mark === undefined) return stops;
  const lost =
    source === undefined
      ? []
      : await lossFindings(source, identity, await resumePosition(options, identity, mark));
  return [routingFinding(identity, policy), ...stops, ...lost];
}

function routingFinding(identity: Identity, policy: InspectionOptions['policy']): Finding {
  const { fingerprint } = CommandTable.withAdditions(identity.commands);
  const given = routingOf(identity.lanes, fingerprint, policy);
  const base = { what: 'pipeline', hint: '' } as const;
  if (given === identity.routing) {
    const text = `routing fingerprint ${identity.routing}: the options given route as the pipeline does`;
    return { ...base, level: 'ok', text };
  }
  return {
    ...base,
    level: 'error',
    text: `routing fingerprint ${identity.routing}, and the options given make ${given}: they route commands otherwise`,
    hint:
      'give every process the same --split-multi-key, --script-keys, --publish, --allow and --deny; ' +
      'if the change is meant, start all of them anew with it: it counts once every lane is drained',
  };
}

async function stopFindings(
  name: string,
  queue: Redis,
  describe: InspectionOptions['describeStop'],
): Promise<Finding[]> {
  const journal = new Journal(name, queue);
  const [inForce, stops] = await Promise.all([journal.inForce(), new Records(queue, journal.keys).stops()]);
  // Stops of lanes and gates in another generation are void.
  return [...stops]
    .filter(([place, { generation }]) => place === 'ingest' || generation === inForce?.generation)
    .map(([place, stop]) => {
      const [kind, number] = place.split(':');
      const who =
        kind === 'lane' ? `lane ${number}` : kind === 'gate' ? `the gate at seq ${number}` : 'ingest';
      return { level: 'error', what: 'pipeline', text: describe(who, stop), hint: stop.hint };
    });
}

/** Where ingest goes on: at the journal's end, or behind the low-water mark if the journal is to be made anew. */
async function resumePosition(
  { name, queue }: InspectionOptions,
  identity: Identity,
  mark: Mark,
): Promise<Position> {
  const journal = queue && new Journal(name, queue);
  const inForce = await journal?.inForce();
  if (journal === undefined || inForce?.id !== identity.journal || inForce.head < mark.seq)
    return mark.position;
  const snapshot = await journal.snapshot(inForce.lanes, mark.tails);
  return snapshot?.position ?? mark.position;
}

async function lossFindings(source: Source, identity: Identity, position: Position): Promise<Finding[]> {
  // A position says nothing in another log; that it is another one is found by the preflight.
  if (source.verify === undefined || source.identity !== identity.source) return [];
  try {
    await source.verify(position);
    const text = `the source holds everything behind ${position}, where reading goes on`;
    return [{ level: 'ok', what: 'source', text, hint: '' }];
  } catch (error) {
    if (error instanceof StopError)
      return [{ level: 'error', what: 'source', text: `${error.code}: ${error.message}`, hint: error.hint }];
    const text = `whether the source is whole behind ${position} cannot be told: ${safeMessage(error)}`;
    return [{ level: 'error', what: 'source', text, hint: 'look whether the source answers' }];
  }
}
