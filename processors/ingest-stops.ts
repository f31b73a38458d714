import { type ConfigurationError, StopError } from '../src/runtime/errors.ts';
import type { LogReplaced } from '../src/sources/source.ts';

/** What was to be kept is not flushed behind the operator's back. */
export function keptFrom(error: LogReplaced): StopError {
  const why = `${error.message}, which would remove everything from the target, and --target-data keep forbids that`;
  return new StopError('KEEP_IMPOSSIBLE', why, {
    hint: 'to let it: start the processes without --target-data keep, then: lanegate lane resume ingest',
  });
}

/** Trying again does not put an option right. */
export function asStop(error: ConfigurationError): StopError {
  return new StopError('CONFIGURATION', error.message, {
    hint: 'correct the option, and start this process again',
  });
}
