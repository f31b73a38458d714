// What programs may import. Everything else may change without notice.

export type { Observation, ObserverOptions } from './roles/observe.ts';
export { Observer } from './roles/observe.ts';
export type { Role, WorkerOptions } from './roles/worker.ts';
export { WorkerProcess } from './roles/worker.ts';
export type { Endpoint, EndpointSecrets } from './runtime/endpoint.ts';
export { parseEndpoint } from './runtime/endpoint.ts';
export { AbortedError, ConfigurationError, StopError } from './runtime/errors.ts';
export type { BinlogWriterOptions, Command, EncodedEntry, EntryOptions } from './sources/binlog-writer.ts';
export { AppendError, BinlogWriter } from './sources/binlog-writer.ts';
export type { OpenSourceOptions } from './sources/open.ts';
export { openSource } from './sources/open.ts';
export type { Entry, From, Position, Source, SourceHead, SourceStart } from './sources/source.ts';
export type { LaneStatus, PipelineStatus, Stopped, Waiting, WorkerStatus } from './status.ts';
