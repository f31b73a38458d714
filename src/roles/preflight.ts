// What must be so before a process takes part, and what an operator should know. Looks only; changes nothing.
// A managed server may refuse CONFIG or leave lines out of INFO: what cannot be told is no finding.

import type { Redis } from 'ioredis';
import { checkIdentity, type IngestOptions } from '../../processors/startup.ts';
import { databasesOf, dataOf, otherPipeline } from '../../processors/target-data.ts';
import { infoOf } from '../../queues/connection.ts';
import { Journal } from '../journal/journal.ts';
import { StopError } from '../runtime/errors.ts';
import { safeMessage } from '../runtime/log.ts';
import { defaultFrom, type Source } from '../sources/source.ts';
import { ControlKeys, parseIdentity, parseMark } from '../target/control.ts';
import type { FencedSession } from '../target/session.ts';
import { guaranteeOf, type TargetTraits } from '../target/traits.ts';
import { ReplyError } from '../wire/replies.ts';
import { connectionHint } from './connection-hint.ts';
import { rightsFinding } from './target-rights.ts';

const QUEUE_VERSION_MIN = [6, 2] as const;

export interface Finding {
  readonly level: 'ok' | 'warning' | 'error';
  readonly what: 'queue' | 'target' | 'source' | 'pipeline';
  readonly text: string;
  /** What to type or do; empty where nothing is to be done. */
  readonly hint: string;
  /** An error that may pass by itself: a start waits for it instead of giving up. */
  readonly passes?: boolean;
}

export interface PreflightOptions {
  readonly name: string;
  readonly queue: Redis | undefined;
  readonly target: FencedSession;
  readonly source: Source | undefined;
  readonly start: Pick<IngestOptions, 'from' | 'lanes' | 'targetData'>;
  readonly acceptWeakerGuarantee: boolean;
}

/** Every check, in the order in which people read them. Throws only when a connection is lost. */
export async function preflight(options: PreflightOptions): Promise<Finding[]> {
  const { name, queue, target, source } = options;
  const queueInfo = queue === undefined ? undefined : parseInfo(await infoOf(queue));
  const targetInfo = parseInfo(String(await target.call(['INFO'])));
  const policy = targetInfo.get('maxmemory_policy') ?? (await configOf(target, 'maxmemory-policy'));
  const first = [
    ...(queueInfo === undefined ? [] : queueFindings(queueInfo)),
    ...targetFindings(targetInfo, policy),
  ];
  // Nothing else can be tried: it answers with MOVED or CLUSTERDOWN.
  if (isClusterNode(targetInfo)) return first;
  const seen = await sourceFindings(source);
  return [
    ...first,
    await transactionFinding(target, name),
    await rightsFinding(target),
    await databasesFinding(target),
    ...(await importFindings(target, source)),
    ...traitFindings(target.traits, target.db, options.acceptWeakerGuarantee, targetInfo),
    ...seen.findings,
    ...sameServerFindings({
      queue: queueInfo?.get('run_id'),
      target: targetInfo.get('run_id'),
      source: seen.id,
    }),
    await startFinding(options),
  ];
}

/** INFO as a map. */
export function parseInfo(text: string): ReadonlyMap<string, string> {
  return new Map(
    [...text.matchAll(/^([^#:\r\n]+):([^\r\n]*)/gm)].map(([, name = '', value = '']) => [name, value]),
  );
}

export function queueFindings(info: ReadonlyMap<string, string>): Finding[] {
  const findings: Finding[] = [];
  const add = (level: Finding['level'], text: string, hint = '') =>
    findings.push({ level, what: 'queue', text, hint });
  const version = info.get('redis_version') ?? '';
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const [majorMin, minorMin] = QUEUE_VERSION_MIN;
  const isOld = version !== '' && (major < majorMin || (major === majorMin && minor < minorMin));
  if (isOld)
    add(
      'error',
      `the queue's Redis is ${version}; ${majorMin}.${minorMin} is needed`,
      'use a newer server for --queue',
    );
  else if (version !== '') add('ok', `the queue's Redis is ${version}`);
  const role = info.get('role');
  if (role === 'slave') add('error', "the queue's Redis is a replica", 'point --queue at its primary');
  const policy = info.get('maxmemory_policy');
  if (policy !== undefined && policy !== 'noeviction') {
    add(
      'error',
      `the queue's Redis may evict keys of the journal (maxmemory-policy ${policy})`,
      'CONFIG SET maxmemory-policy noeviction',
    );
  } else if (policy !== undefined) add('ok', 'the queue keeps its keys (maxmemory-policy noeviction)');
  const aof = info.get('aof_enabled');
  if (aof === '0') {
    add(
      'warning',
      "the queue's Redis writes no AOF: after its crash the journal is made anew from the source",
      'CONFIG SET appendonly yes',
    );
  } else if (aof === '1') add('ok', 'the queue writes an AOF');
  return findings;
}

export function targetFindings(info: ReadonlyMap<string, string>, policy: string | undefined): Finding[] {
  const findings: Finding[] = [];
  const add = (level: Finding['level'], text: string, hint = '') =>
    findings.push({ level, what: 'target', text, hint });
  const version = info.get('redis_version');
  if (info.get('role') === 'slave') {
    const hint = 'promote it (REPLICAOF NO ONE), or point --target at the primary';
    findings.push({ level: 'error', what: 'target', text: 'the target is a replica', hint, passes: true });
  } else {
    add('ok', `the target is a primary${version === undefined ? '' : ` (${version})`}`);
  }
  if (isClusterNode(info)) {
    add(
      'error',
      'the target is a cluster node',
      'only one standalone server can be a target: give another --target',
    );
  }
  if (policy?.startsWith('allkeys') === true) {
    add(
      'warning',
      `the target may evict any key, lanegate's own among them (maxmemory-policy ${policy})`,
      'CONFIG SET maxmemory-policy noeviction, or volatile-lru',
    );
  }
  return findings;
}

function isClusterNode(info: ReadonlyMap<string, string>): boolean {
  return info.get('cluster_enabled') === '1';
}

/** By run_id: which roles one server plays. */
export function sameServerFindings(ids: {
  readonly queue: string | undefined;
  readonly target: string | undefined;
  readonly source: string | undefined;
}): Finding[] {
  const { queue, target, source } = ids;
  const findings: Finding[] = [];
  if (target !== undefined && target === queue) {
    const text = 'queue and target are one server: a FLUSHALL of the log would erase the journal';
    findings.push({ level: 'error', what: 'queue', text, hint: 'give another --queue' });
  }
  if (target !== undefined && target === source) {
    const text = 'source and target are one server: the log would be applied to itself';
    findings.push({ level: 'error', what: 'source', text, hint: 'give another --target' });
  }
  if (source !== undefined && source === queue) {
    const text = 'source and queue are one server: were it lost, nothing could be made anew from the source';
    findings.push({ level: 'warning', what: 'source', text, hint: 'give another --queue' });
  }
  return findings;
}

async function sourceFindings(
  source: Source | undefined,
): Promise<{ readonly id: string | undefined; readonly findings: readonly Finding[] }> {
  if (source === undefined) return { id: undefined, findings: [] };
  try {
    const id = await source.serverId();
    const { position, unknown } = await source.head();
    const end = unknown ? 'and does not tell where its log ends' : `its log ends at ${position}`;
    const text = `the source ${source.display} answers, ${end}`;
    return { id, findings: [{ level: 'ok', what: 'source', text, hint: '' }] };
  } catch (error) {
    const why = safeMessage(error);
    const hint = error instanceof StopError ? error.hint : connectionHint('source', why);
    const text = `the source ${source.display} cannot be read: ${why}`;
    const passes = !(error instanceof StopError);
    return { id: undefined, findings: [{ level: 'error', what: 'source', text, hint, passes }] };
  }
}

/** WATCH and MULTI are tried on a key that nobody has, and taken back. */
async function transactionFinding(target: FencedSession, name: string): Promise<Finding> {
  try {
    await target.fence([`${new ControlKeys(name).prefix}check`]);
    await target.abandon();
    return { level: 'ok', what: 'target', text: 'the target takes WATCH and MULTI', hint: '' };
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    const hint = 'lanegate applies in transactions: give its user +watch +multi +exec +discard +unwatch';
    return {
      level: 'error',
      what: 'target',
      text: `the target refuses WATCH or MULTI: ${error.message}`,
      hint,
    };
  }
}

/** What a target that is no Redis does otherwise, and what that costs. */
export function traitFindings(
  traits: TargetTraits,
  db: number,
  acceptWeakerGuarantee: boolean,
  info: ReadonlyMap<string, string>,
): Finding[] {
  if (traits.pika === undefined) return [];
  const findings: Finding[] = [];
  const add = (level: Finding['level'], text: string, hint = '') =>
    findings.push({ level, what: 'target', text, hint });
  add(
    'ok',
    `the target is a Pika (it says ${traits.pika}); it lacks ${traits.lacks.size} of the commands that change keys`,
  );
  if (traits.fence !== 'whole') {
    const text = `what is applied here is applied ${guaranteeOf(traits)}`;
    if (acceptWeakerGuarantee) add('warning', text, 'accepted by --accept-weaker-guarantee');
    else
      add(
        'error',
        `${text}: its WATCH does not hold as that of Redis does`,
        'to accept that: --accept-weaker-guarantee',
      );
  }
  if (traits.oneDatabase)
    add('ok', `only database ${db} is written: SELECT inside MULTI does not do there what it says`);
  if (traits.deadlines !== 'SET')
    add(
      'ok',
      `deadlines are set by ${traits.deadlines}${traits.deadlines === 'EXPIREAT' ? ', in whole seconds' : ''}`,
    );
  if (traits.cached)
    add(
      'error',
      'the read cache of the target is on (cache-model): what a FLUSHDB inside MULTI has erased is still read from it',
      'CONFIG SET cache-model 0, and cache-model : 0 in its file',
    );
  if (Number(info.get('connected_slaves') ?? 0) > 0)
    add(
      'warning',
      'the target has slaves, and a FLUSHDB inside MULTI is not in the log that they follow',
      'detach them, and let them copy the target anew at the end',
    );
  return findings;
}

async function databasesFinding(target: FencedSession): Promise<Finding> {
  const databases = await databasesOf(target);
  return { level: 'ok', what: 'target', text: `the target has ${databases} databases`, hint: '' };
}

/** What keeps keys alive that a live source renews while the target is behind. */
async function importFindings(target: FencedSession, source: Source | undefined): Promise<Finding[]> {
  if (source === undefined || !source.replication || source.finite) return [];
  const mode = await target.askForImport();
  const texts = {
    on: 'the target is in import mode: a pipeline that begins now does not hold deadlines back',
    off: 'the target knows import mode and is not in it: deadlines are held back (--expiry-grace-ms)',
    unknown: 'deadlines are held back (--expiry-grace-ms)',
  };
  return [{ level: 'ok', what: 'target', text: texts[mode], hint: '' }];
}

async function configOf(target: FencedSession, name: string): Promise<string | undefined> {
  try {
    const reply = await target.call(['CONFIG', 'GET', name]);
    return Array.isArray(reply) && reply[1] !== undefined ? String(reply[1]) : undefined;
  } catch (error) {
    if (error instanceof ReplyError) return undefined;
    throw error;
  }
}

/** What the next start would do. */
async function startFinding(options: PreflightOptions): Promise<Finding> {
  const { name, queue, target, source, start } = options;
  const control = new ControlKeys(name);
  const [identityText = null, markText = null] = await target.read([control.identity, control.mark]);
  const finding = (level: Finding['level'], text: string, hint = ''): Finding => ({
    level,
    what: 'pipeline',
    text,
    hint,
  });
  if (identityText === null) return await firstStartFinding(options, finding);
  const identity = parseIdentity(identityText);
  const mark = parseMark(markText ?? '');
  if (identity === undefined || mark === undefined) {
    return finding(
      'error',
      `the control keys ${control.prefix}* at the target cannot be read`,
      'start over: lanegate reset',
    );
  }
  try {
    checkIdentity(identity, source, start);
  } catch (error) {
    if (error instanceof StopError) return finding('error', error.message, error.hint);
    throw error;
  }
  const inForce = queue && (await new Journal(name, queue).inForce());
  const journal = inForce?.id === identity.journal ? 'goes on with its journal' : 'makes its journal anew';
  return finding(
    'ok',
    `a start ${journal}: pipeline "${name}", ${identity.lanes} lanes, everything applied through seq ${mark.mark}`,
  );
}

/** A snapshot replaces what the target holds: its first command is a FLUSHALL. */
export function keepProblem(
  source: Source | undefined,
  start: { readonly from?: string | undefined; readonly targetData: IngestOptions['targetData'] },
): { readonly text: string; readonly hint: string } | undefined {
  if (start.targetData !== 'keep' || source?.copiesFrom === undefined) return undefined;
  if ((start.from ?? defaultFrom(source, true)) !== source.copiesFrom) return undefined;
  return {
    text: `a pipeline from ${source.display} begins with a ${source.copiesFrom === 'beginning' ? 'full sync' : 'copy of the data'}, which removes everything from the target first: --target-data keep cannot be honoured`,
    hint: '--from now keeps the data and applies what the source does from now on; --target-data replace removes it',
  };
}

type MakeFinding = (level: Finding['level'], text: string, hint?: string) => Finding;

async function firstStartFinding(options: PreflightOptions, finding: MakeFinding): Promise<Finding> {
  const { name, queue, target, source, start } = options;
  const inForce = queue && (await new Journal(name, queue).inForce());
  const known = [
    ...(inForce ? ["the queue's journal"] : []),
    ...((await source?.forget(false).catch(() => [])) ?? []),
  ];
  if (known.length > 0) {
    const hint = 'point --target at the right server; or start over: lanegate reset';
    return finding(
      'error',
      `the target knows nothing of pipeline "${name}", but ${known.join(' and ')} does`,
      hint,
    );
  }
  const problem = keepProblem(source, start);
  if (problem) return finding('error', problem.text, problem.hint);
  const data = await dataOf(target);
  const other = data.keys === 0 ? undefined : await otherPipeline(target, new ControlKeys(name).prefix);
  if (data.keys === 0) return finding('ok', `a start begins pipeline "${name}" on an empty target`);
  const holds = `the target holds ${data.keys} keys (${data.text})`;
  if (start.targetData === 'replace') {
    return finding('warning', `${holds}: a start removes all of them (--target-data replace)`);
  }
  if (other !== undefined) {
    return finding(
      'error',
      `the target belongs to the pipeline "${other}"`,
      `end that one first: lanegate reset --name ${other}`,
    );
  }
  if (start.targetData === 'keep')
    return finding('ok', `${holds}: a start applies on top of them (--target-data keep)`);
  return finding(
    'error',
    `${holds} and is not this pipeline's`,
    '--target-data keep applies on top of them, --target-data replace removes them all first',
  );
}
