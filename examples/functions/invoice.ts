/**
 * Totals an invoice out of its lines:
 * `bunbase invoke invoice '{"currency":"EUR","taxRate":0.19,"lines":[{"text":"Desk","quantity":2,"unitCents":14950}]}'`
 *
 * A bad invoice is an answer (422), not a failure: trying it again would not mend it.
 */
interface Line {
	readonly text: string;
	readonly quantity: number;
	readonly unitCents: number;
}

interface Invoice {
	readonly currency: string;
	readonly taxRate: number;
	readonly lines: readonly Line[];
}

export const config = {
	timeoutMs: 5_000,
	concurrency: 20,
	retry: { maxAttempts: 5, baseMs: 500, retryOn: [503] },
};

export default async function handler(req: Request): Promise<Response> {
	const invoice = (await req.json()) as Invoice;
	const problem = problemOf(invoice);
	if (problem !== undefined) return Response.json({ error: problem }, { status: 422 });

	const lines = invoice.lines.map((line) => ({ ...line, cents: line.quantity * line.unitCents }));
	const netCents = lines.reduce((sum, line) => sum + line.cents, 0);
	const taxCents = Math.round(netCents * invoice.taxRate);
	return Response.json({ currency: invoice.currency, lines, netCents, taxCents, totalCents: netCents + taxCents });
}

function problemOf(invoice: Invoice): string | undefined {
	if (!Array.isArray(invoice.lines) || invoice.lines.length === 0) return "an invoice needs at least one line";
	const bad = invoice.lines.findIndex((line) => !(line.quantity > 0) || !Number.isInteger(line.unitCents));
	if (bad >= 0) return `line ${bad + 1}: quantity must be positive and unitCents whole`;
	if (!(invoice.taxRate >= 0 && invoice.taxRate < 1)) return "taxRate must be from 0 to below 1";
	return undefined;
}
