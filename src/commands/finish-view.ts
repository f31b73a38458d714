import type { Config } from '../config.ts';
import type { DeadlineCounts } from '../finish/deadlines.ts';
import type { Registration } from '../roles/registration.ts';
import type { Endpoint } from '../runtime/endpoint.ts';
import { KINDS } from '../verify/look.ts';
import type { VerifyResult } from '../verify/verify.ts';
import { escapeControl, formatCount } from './format.ts';

/** What `--json` prints as its last line. A part that is missing was not reached. */
export interface FinishReport {
  readonly frozen: boolean;
  /** The writes at the source, when it was looked at last. */
  writes: 'not looked at' | 'quiet' | 'held' | 'released' | 'released within 15 s';
  /** Where everything was applied. */
  caughtUp?: string;
  /** `exact`: nothing was written at the source from lag 0 to the end of the last pass. */
  deadlines?: DeadlineCounts & { readonly rounds: number; readonly exact: boolean };
  /** Keys with a deadline that the source does not have. */
  targetOnly?: {
    readonly count: number;
    readonly first: readonly { readonly db: number; readonly key: string }[];
    readonly notLookedAt: number;
  };
  /** Divergences and unverified batches, and the keys that they name. */
  records?: {
    readonly records: number;
    readonly unnamed: number;
    readonly keys: number;
    readonly different: number;
    readonly first: readonly Found[];
  };
  /** The target is in import mode, because the pipeline counts on it. */
  importMode?: true;
  verify?: VerifyResult;
  removed?: number;
  readonly done: string[];
  /** Why the exit code is 1. */
  readonly open: string[];
}

interface Found {
  readonly db: number;
  readonly key: string;
  readonly kind: string;
  readonly detail: string;
}

interface Scene {
  readonly config: Config;
  readonly source: Endpoint;
  readonly target: Endpoint;
  readonly workers: readonly Registration[];
}

export function renderFinish(report: FinishReport, scene: Scene): string {
  const lines = [
    ...deadlineLines(report),
    ...targetOnlyLines(report),
    ...recordLines(report),
    ...verifyLines(report),
    ...(report.removed === undefined
      ? []
      : [
          `${formatCount(report.removed)} keys of pipeline "${scene.config.name}" are removed from the target`,
        ]),
    ...(report.open.length === 0 ? switchLines(report, scene) : openLines(report)),
  ];
  return `${lines.join('\n')}\n`;
}

/** `kill 12 13` for those of this machine is all that can be known: how they were started is not. */
export function stopCommands(workers: readonly Registration[]): string {
  const hosts = new Map<string, number[]>();
  for (const { host, pid } of workers) hosts.set(host, [...(hosts.get(host) ?? []), pid]);
  return [...hosts].map(([host, pids]) => `on ${escapeControl(host)}: kill ${pids.join(' ')}`).join('; ');
}

function deadlineLines({ deadlines }: FinishReport): string[] {
  if (deadlines === undefined) return ['deadlines: not put back'];
  const { scanned, volatile, restored, persisted, fields, exact } = deadlines;
  const lines = [
    `deadlines: ${formatCount(volatile)} of ${formatCount(scanned)} keys have one, ${formatCount(restored)} were put back` +
      (persisted === 0 ? '' : `, ${formatCount(persisted)} were taken away as at the source`) +
      (fields === 0 ? '' : `, and those of ${formatCount(fields)} hash fields`),
  ];
  lines.push(
    exact
      ? "  all of them are the source's own: nothing was written there from lag 0 to the end of the pass"
      : "  not all of them are the source's own: it was written to meanwhile",
  );
  return lines;
}

function targetOnlyLines({ targetOnly }: FinishReport): string[] {
  if (targetOnly === undefined || targetOnly.count === 0) return [];
  return [
    `at the target only, although their deadline has not come there: ${formatCount(targetOnly.count)} keys`,
    ...targetOnly.first.map(({ db, key }) => `  db ${db} ${key}`),
  ];
}

function recordLines({ records }: FinishReport): string[] {
  if (records === undefined) return [];
  if (records.records === 0) return ['divergences and unverified batches: none'];
  const { keys, different, unnamed, first } = records;
  const known = `${formatCount(keys)} keys compared, ${formatCount(keys === 0 ? 0 : different)} different`;
  return [
    `divergences and unverified batches: ${formatCount(records.records)}; ${known}` +
      (unnamed === 0 ? '' : `; the keys of ${formatCount(unnamed)} are not known any more`),
    ...first.map(({ db, key, kind, detail }) => `  db ${db} ${key}  ${kind}  ${escapeControl(detail)}`),
  ];
}

function verifyLines({ verify }: FinishReport): string[] {
  if (verify === undefined) return [];
  const { compared, differences, first } = verify;
  const found = KINDS.filter((kind) => differences[kind] > 0).map(
    (kind) => `${formatCount(differences[kind])} ${kind}`,
  );
  return [
    `verify: ${formatCount(compared)} keys compared, ${found.length === 0 ? 'both sides are equal' : found.join(', ')}`,
    ...first.map(({ db, key, kind, detail }) => `  db ${db} ${key}  ${kind}  ${escapeControl(detail)}`),
  ];
}

function openLines({ open, writes }: FinishReport): string[] {
  const held =
    writes === 'released within 15 s' ? ["the pause of the source's writes ends by itself within 15 s"] : [];
  return [
    '',
    'not finished:',
    ...[...open, ...held].map((what) => `  ${escapeControl(what)}`),
    'lanegate finish may be repeated: what it has done stays done',
  ];
}

function switchLines(
  { removed, importMode }: FinishReport,
  { config, source, target, workers }: Scene,
): string[] {
  const steps = [
    `stop the writers at ${source.display}, if they still run`,
    'if anything was written since: lanegate finish again (what is written now is applied with its deadline held back)',
    ...(importMode === undefined ? [`point the application at ${target.display}`] : []),
    ...(workers.length === 0 ? [] : [`stop the workers: ${stopCommands(workers)}`]),
    ...(importMode === undefined
      ? []
      : [
          `CONFIG SET import-mode no at ${target.display}, and in its file: until then nothing expires there`,
          `point the application at ${target.display}`,
        ]),
    removed === undefined
      ? `lanegate reset --name ${config.name} ... removes the pipeline's keys from queue and target`
      : `lanegate reset --name ${config.name} ... removes what is left at the queue`,
  ];
  return ['', 'finished. To switch now, in this order:', ...steps.map((step, at) => `  ${at + 1}. ${step}`)];
}
