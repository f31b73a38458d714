import { ConnectionLost } from '../wire/connection.ts';
import { ReplyError, refusalCode } from '../wire/replies.ts';

/** Pass by themselves: retried in place for as long as it takes. */
const TRANSIENT: ReadonlySet<string> = new Set([
  'OOM',
  'LOADING',
  'BUSY',
  'READONLY',
  'MASTERDOWN',
  'CLUSTERDOWN',
  'TRYAGAIN',
  'NOREPLICAS',
  'NOREPLICA',
  'MISCONF',
  'NOMASTERLINK',
]);

/** Somebody has to give us a right or a password: we wait, and do not hammer. */
const PERMISSION: ReadonlySet<string> = new Set(['NOAUTH', 'WRONGPASS', 'NOPERM']);

export type Refusal = 'transient' | 'permission' | 'poison';

export function refusalOf(error: ReplyError): Refusal {
  const code = refusalCode(error);
  if (TRANSIENT.has(code)) return 'transient';
  return PERMISSION.has(code) ? 'permission' : 'poison';
}

/** Connections that the target ends in a row, before it is said. */
export const LOSSES_TOLD = 3;

/** The code under which status shows why something is tried again; undefined for what no trying cures. */
export function troubleCode(error: unknown): string | undefined {
  if (error instanceof ReplyError) return refusalCode(error);
  return error instanceof ConnectionLost ? 'CONNECTION' : undefined;
}

const HINTS: Readonly<Record<string, string>> = {
  CONNECTION:
    'the target ends the connection whenever this is sent: see its log (client-query-buffer-limit, maxmemory-clients); lanegate tries again by itself',
  CLUSTERDOWN: 'the target is a cluster node: only one standalone server can be a target',
  OOM: 'the target is out of memory: raise its maxmemory or free memory; lanegate goes on by itself',
  LOADING: 'the target is loading its data; lanegate goes on by itself',
  BUSY: 'a script blocks the target (SCRIPT KILL ends it); lanegate goes on by itself',
  READONLY: 'the target is a replica: promote it (REPLICAOF NO ONE) or point --target at the primary',
  MISCONF: 'the target cannot write to its disk: see its log; lanegate goes on by itself',
  NOREPLICAS: 'the target wants more replicas (min-replicas-to-write); lanegate goes on by itself',
  NOIMPORT:
    'the target is not in import mode any more: CONFIG SET import-mode yes there (and in its file); lanegate goes on by itself',
  NOAUTH: 'the target wants a password: set LANEGATE_TARGET_PASSWORD and restart this process',
  WRONGPASS:
    'the target refuses the password: correct it at the target, or LANEGATE_TARGET_PASSWORD and restart',
  NOPERM:
    "the target's user lacks a right: ACL LOG at the target names it; lanegate goes on once it is granted",
};

export function refusalHint(code: string): string {
  return HINTS[code] ?? 'lanegate tries again by itself';
}

/** The codes that opening a connection can be refused with. */
export function openingRefusal(error: unknown): { code: string; refusal: Refusal } {
  if (error instanceof ReplyError) {
    const refusal = refusalOf(error);
    return { code: refusalCode(error), refusal: refusal === 'poison' ? 'transient' : refusal };
  }
  return { code: 'CONNECTION', refusal: 'transient' };
}
