// What the viewer's API answers (viewer/server/api.py). Ids are hexadecimal; moments are nanoseconds since the epoch as
// text, because JavaScript's numbers end at 2^53; durations are nanoseconds.
export type Attributes = Record<string, unknown>;

export interface Status {
  version: string;
  pid: number;
  endpoints: { http: string; grpc: string | null };
  store: {
    path: string | null;
    traces: number;
    spans: number;
    logs: number;
    bytes: number;
    oldest: string | null;
    refused: number;
    failed: number;
    given_up_traces: number;
    max_bytes: number;
    max_age_s: number;
  };
  refused: Record<string, number>;
}

export interface TraceSummary {
  id: string;
  name: string;
  service: string;
  kind: number;
  root: boolean;
  start: string;
  duration: number;
  spans: number;
  errors: number;
  services: [string, number][];
  running: number;
  lost: number;
}

export interface TraceList {
  traces: TraceSummary[];
  next: number | null;
  complete: boolean;
  searched_to: string | null;
}

/** Spans as columns, in the order of their start. `parent` is a position, -1 for a root, -2 for one that is missing. */
export interface Columns {
  id: string[];
  parent: number[];
  name: number[];
  kind: number[];
  status: number[];
  start: number[];
  duration: number[];
  resource: number[];
  scope: number[];
  events: number[];
  links: number[];
}

export interface TraceData {
  id: string;
  start: string;
  duration: number;
  errors: number;
  names: string[];
  resources: { service: string; attributes: Attributes }[];
  scopes: { name: string; version: string; attributes: Attributes }[];
  spans: Columns;
  missing: Record<string, string>;
  /** Of spans that haven't ended, by position. Lost: their process has stopped telling of them. */
  states: Record<string, "running" | "lost">;
  messages: Record<string, string>;
  /** Position of the span (-1 for none), nanoseconds since the start, severity, text, id. */
  logs: [number, number, number, string, number][];
  truncated: { spans?: number; logs?: number } | null;
}

export interface SpanEvent {
  name: string;
  time: string;
  attributes: Attributes;
  dropped?: number;
}

export interface SpanLink {
  trace: string;
  span: string;
  attributes?: Attributes;
  dropped?: number;
}

export interface SpanLog {
  time: string;
  severity: number;
  text: string;
  body: string;
  attributes: Attributes;
}

export interface SpanData {
  trace: string;
  id: string;
  parent: string | null;
  name: string;
  kind: number;
  status: number;
  message: string | null;
  start: string;
  duration: number;
  state: "running" | "lost" | "ended";
  attributes: Attributes;
  events: SpanEvent[];
  links: SpanLink[];
  linked_from: SpanLink[];
  dropped: Record<string, number>;
  trace_state: string | null;
  resource: { service: string; attributes: Attributes };
  scope: { name: string; version: string; attributes: Attributes };
  logs: SpanLog[];
  /** What there is more of than is told. */
  truncated: ("logs" | "linked_from")[];
}

export interface LogRecord {
  id: number;
  time: string;
  severity: number;
  severity_text: string;
  body: string;
  attributes: Attributes;
  trace: string | null;
  span: string | null;
  service: string;
  scope: string;
  event: string;
  dropped: number;
}

export interface LogList {
  logs: LogRecord[];
  next: string | null;
  complete: boolean;
}

export interface Metric {
  id: number;
  name: string;
  kind: string;
  unit: string;
  description: string;
  service: string;
  instance: string;
  scope: string;
  series: number;
  temporality: number;
  monotonic: boolean;
}

export interface Distribution {
  count: number;
  sum: number | null;
  min?: number;
  max?: number;
  bounds?: number[];
  counts?: number[];
  scale?: number;
  zero_count?: number;
  positive?: { offset: number; counts: number[] };
  negative?: { offset: number; counts: number[] };
  quantiles?: [number, number | null][];
}

export interface Exemplar {
  time: string;
  value: number | null;
  trace: string;
  span: string;
}

/** Its time, the value or the distribution, exemplars, and since when it counts; "0" for unknown. */
export type Point = [string, number | null, Distribution | null, Exemplar[] | null, string];

export interface Series {
  attributes: Attributes;
  /** Whether there are older points. */
  more: boolean;
  /** Which it is of those who send a series of these attributes, from 0, and since when its last points count. */
  sender: number;
  since: string;
  /** Whether it is of several that can't be told apart. */
  mixed: boolean;
  points: Point[];
}

export interface MapNode {
  service: string;
  spans: number;
  errors: number;
  kind: "service" | "remote";
}

export interface MapEdge {
  from: string;
  to: string;
  calls: number;
  errors: number;
  duration: number;
  p50: number;
  p95: number;
}

export interface ServiceMapData {
  nodes: MapNode[];
  edges: MapEdge[];
  traces: number;
  complete: boolean;
}

export interface Check {
  id: string;
  title: string;
  status: "pass" | "warn" | "fail" | "skip";
  detail: string;
  advice: string;
}

export interface Change {
  traces: string[];
  more: boolean;
  spans: number;
  logs: number;
  points: number;
}
