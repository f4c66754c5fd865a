// What the page uses of htm, for the check of its types.
declare const htm: {
  bind(
    h: (type: unknown, properties: object | null, ...children: unknown[]) => import("./preact.js").VNode,
  ): (parts: TemplateStringsArray, ...values: unknown[]) => import("./preact.js").VNode;
};
export default htm;
