import { readFileSync } from 'node:fs';

// The whole suite is a canary test: whatever a process or a command of lanegate prints is searched, at its end, for every
// password that the test gave to it or to a server, and for the values of the random load.

/** Shorter ones are words of any text. */
const SECRET_CHARS_MIN = 7;
/** In every value of the random load, and nowhere else. */
export const LOAD_MARK = 'c4n4ryload-';

const secrets = new Set<string>();

export function keepSecret(secret: string | undefined): void {
  if (secret === undefined || secret.length < SECRET_CHARS_MIN) return;
  if (/^\w+-password$/.test(secret))
    throw new Error(`the password of a test is the name of an option: ${secret}`);
  secrets.add(secret);
}

/** Passwords among the arguments and variables that a process is given: in URLs, plain, and in files. */
function keepSecretsOf(args: readonly string[], env: Readonly<Record<string, string | undefined>>): void {
  for (const text of [...args, ...Object.values(env)]) {
    const inUrl = /^[a-z-]+:\/\/[^/@:]*:([^/@]+)@/.exec(text ?? '')?.[1];
    if (inUrl !== undefined) for (const form of [inUrl, decodeURIComponent(inUrl)]) keepSecret(form);
  }
  for (const [name, value] of Object.entries(env)) if (/^LANEGATE_\w*PASSWORD$/.test(name)) keepSecret(value);
  const files = [
    ...args.filter((_, at) => /-password-file$/.test(args[at - 1] ?? '')),
    ...Object.entries(env).flatMap(([name, value]) =>
      /^LANEGATE_\w*PASSWORD_FILE$/.test(name) ? [value] : [],
    ),
  ];
  for (const file of files) {
    try {
      if (file) keepSecret(readFileSync(file, 'utf8').trim());
    } catch {
      // A test may name a file that is not there.
    }
  }
}

/** @throws when `output` of lanegate holds a password, or a value of the load where `values` must not be in it */
export function refuseLeaks(
  output: string,
  given: {
    readonly args: readonly string[];
    readonly env?: Readonly<Record<string, string | undefined>>;
  },
): void {
  keepSecretsOf(given.args, given.env ?? {});
  const forbidden = given.args.includes('--values') ? [...secrets] : [...secrets, LOAD_MARK];
  const found = forbidden.find((secret) => output.includes(secret));
  if (found === undefined) return;
  const at = output.indexOf(found);
  throw new Error(
    `lanegate ${given.args[0]} printed a secret: ...${output.slice(Math.max(0, at - 200), at)}[HERE]`,
  );
}
