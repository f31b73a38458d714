import type { FencedSession } from '../target/session.ts';
import { ReplyError } from '../wire/replies.ts';
import type { Finding } from './preflight.ts';

/**
 * Commands that lanegate never sends and that would give away the server, each asked for in a way that changes nothing
 * where it is allowed. SHUTDOWN and REPLICAOF have no such way: a user that may these usually may the others.
 */
const PROBES: readonly (readonly [name: string, args: readonly string[]])[] = [
  ['CONFIG SET', ['CONFIG', 'SET', 'lanegate-no-such-parameter', '0']],
  ['ACL', ['ACL', 'DRYRUN', 'lanegate-no-such-user', 'PING']],
  ['DEBUG', ['DEBUG', 'HELP']],
  ['MODULE', ['MODULE', 'LIST']],
];
/** Refused to this user, switched off for everyone, or not there. */
const REFUSED = /^NOPERM|unknown (sub)?command|not allowed/i;

/** Whoever writes the log decides what this user runs, so it should be able to do what is needed and no more. */
export async function rightsFinding(target: FencedSession): Promise<Finding> {
  const allowed: string[] = [];
  for (const [name, args] of PROBES) if (await mayRun(target, args)) allowed.push(name);
  if (allowed.length === 0)
    return { level: 'ok', what: 'target', text: "the target's user may not administer it", hint: '' };
  return {
    level: 'warning',
    what: 'target',
    text: `the target's user may do more than lanegate needs (${allowed.join(', ')})`,
    hint: 'give lanegate a user of its own: -@all +@read +@write +@transaction -@admin -@dangerous ...',
  };
}

async function mayRun(target: FencedSession, args: readonly string[]): Promise<boolean> {
  try {
    await target.call(args);
    return true;
  } catch (error) {
    if (!(error instanceof ReplyError)) throw error;
    return !REFUSED.test(error.message);
  }
}
