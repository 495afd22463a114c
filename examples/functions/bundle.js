// @bun
// ../../work/main/examples/functions/hello.ts
async function handler(req, ctx) {
	const body = req.method === "GET" ? "" : await req.text();
	const { name = "world" } = body === "" ? {} : JSON.parse(body);
	ctx.log.info(`greeting ${name}`, { invocationId: ctx.invocationId });
	return Response.json({ message: `Hello, ${name}!` });
}
export { handler as default };

//# debugId=3F5E35BACB41009964756E2164756E21
//# sourceMappingURL=bundle.js.map
