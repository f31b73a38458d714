import { type TestAPI, test } from 'vitest';

/**
 * Whether cases run that others cover in kind: the same fault at one more step, in one more form, with one more seed, or
 * at length. `npm test` names them as skipped; with LANEGATE_EVERY_CASE=1, as in CI, they run.
 */
export const EVERY_CASE = process.env.LANEGATE_EVERY_CASE === '1';

export const everyCase: ReturnType<TestAPI['skipIf']> = test.skipIf(!EVERY_CASE);
