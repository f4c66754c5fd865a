// An application that the OpenTelemetry JavaScript SDK observes: sends spans, or all three signals, and prints what it sent.
// `node send.js http/protobuf|http/json|grpc HTTP_ENDPOINT GRPC_ENDPOINT`; its packages are found by NODE_PATH.

const { SpanKind, SpanStatusCode, trace, ROOT_CONTEXT } = require('@opentelemetry/api');
const { resourceFromAttributes } = require('@opentelemetry/resources');
const { BatchSpanProcessor, TracerProvider } = require('@opentelemetry/sdk-trace');
const { BatchLogRecordProcessor, LoggerProvider } = require('@opentelemetry/sdk-logs');
const { MeterProvider, PeriodicExportingMetricReader } = require('@opentelemetry/sdk-metrics');

const [protocol, http, grpc] = process.argv.slice(2);
const exporters = {
  'http/protobuf': () => new (require('@opentelemetry/exporter-trace-otlp-proto').OTLPTraceExporter)({ url: `${http}/v1/traces` }),
  'http/json': () => new (require('@opentelemetry/exporter-trace-otlp-http').OTLPTraceExporter)({ url: `${http}/v1/traces`, compression: 'gzip' }),
  grpc: () => new (require('@opentelemetry/exporter-trace-otlp-grpc').OTLPTraceExporter)({ url: grpc }),
};
const resource = resourceFromAttributes({ 'service.name': `javascript ${protocol}`, 'service.version': '1.2.3' });

async function main() {
  const sent = [];
  const provider = new TracerProvider({ resource, spanProcessors: [new BatchSpanProcessor({ exporter: exporters[protocol]() })] });
  const tracer = provider.getTracer('senders', '4.5.6');
  const root = tracer.startSpan('GET /checkout', {
    kind: SpanKind.SERVER,
    attributes: { 'http.request.method': 'GET', 'http.response.status_code': 500, ratio: 0.25, ok: true, tags: ['a', 'ü'] },
  }, ROOT_CONTEXT);
  const inside = trace.setSpan(ROOT_CONTEXT, root);
  for (const [name, kind] of [['SELECT', SpanKind.CLIENT], ['publish', SpanKind.PRODUCER], ['work', SpanKind.INTERNAL]]) {
    const span = tracer.startSpan(name, { kind, links: [{ context: root.spanContext(), attributes: { why: 'test' } }] }, inside);
    span.addEvent('done', { number: 7 });
    span.end();
    sent.push(told(span, name, root));
  }
  root.recordException(new TypeError('no stock'));
  root.setStatus({ code: SpanStatusCode.ERROR, message: 'no stock' });
  root.end();
  sent.push(told(root, 'GET /checkout'));
  await provider.shutdown();

  if (protocol === 'http/json') {
    const { OTLPLogExporter } = require('@opentelemetry/exporter-logs-otlp-http');
    const exporter = new OTLPLogExporter({ url: `${http}/v1/logs` });
    const logs = new LoggerProvider({ resource, processors: [new BatchLogRecordProcessor({ exporter })] });
    logs.getLogger('senders').emit({ body: 'sold out', severityNumber: 17, severityText: 'ERROR', context: inside, attributes: { item: 3 } });
    await logs.shutdown();
  }
  if (protocol === 'http/protobuf') {
    const { OTLPMetricExporter } = require('@opentelemetry/exporter-metrics-otlp-proto');
    const exporter = new OTLPMetricExporter({ url: `${http}/v1/metrics` });
    const meters = new MeterProvider({ resource, readers: [new PeriodicExportingMetricReader({ exporter })] });
    const meter = meters.getMeter('senders');
    meter.createCounter('js.orders', { unit: '{order}' }).add(3, { tier: 'gold' });
    meter.createHistogram('js.latency', { unit: 's' }).record(0.5);
    await meters.shutdown();
  }
  console.log(JSON.stringify(sent));
}

function told(span, name, parent) {
  const { traceId, spanId } = span.spanContext();
  return { trace: traceId, id: spanId, parent: parent ? parent.spanContext().spanId : null, name };
}

main();
