package peer;

import javax.sql.DataSource;
import org.apache.camel.Exchange;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.processor.idempotent.jdbc.JdbcMessageIdRepository;
import org.springframework.stereotype.Component;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;

/**
 * A transactional inbox: the idempotent repository and the inbox row are committed together before the answer, a SQL
 * consumer sends what is new. A crash between the POST and its update sends once more (at least once).
 */
@Component
public class Routes extends RouteBuilder {
    private final DataSource dataSource;
    private final PlatformTransactionManager transactions;

    public Routes(DataSource dataSource, PlatformTransactionManager transactions) {
        this.dataSource = dataSource;
        this.transactions = transactions;
    }

    @Override
    public void configure() {
        // REQUIRED, so that it joins the route's transaction: a key without its row would be a notification lost.
        var seen = new JdbcMessageIdRepository(dataSource, new TransactionTemplate(transactions), "notifications");

        // They wait for HTTP, not for a core. From Camel's own strategy, so that it stops them with the context.
        var senders = getContext().getExecutorServiceManager().newFixedThreadPool(this, "senders", 16);

        from("platform-http:/ehr/main/appointments/Appointment/{id}?httpMethodRestrict=PUT").routeId("ehr-door")
            .choice()
                .when(method("visits", "allowed"))
                    .convertBodyTo(String.class, "UTF-8")
                    .bean("visits", "recognise")
                    .to("direct:store")
                    .setHeader(Exchange.HTTP_RESPONSE_CODE, constant(200))
                .otherwise()
                    .setHeader(Exchange.HTTP_RESPONSE_CODE, constant(401))
            .end()
            .setBody(constant(""));

        from("direct:store").routeId("store")
            .transacted()
            .filter(header("booked"))
            .idempotentConsumer(header("key"), seen)
                .to("sql:insert into inbox (key, body) values (:#key, :#${body})");

        // Every 20 ms, a list at a time, its rows side by side; what failed is still 'new' and comes again.
        from("sql:select id, key, body from inbox where state = 'new' order by id limit 200?useIterator=false&delay=20&initialDelay=100")
            .routeId("sender")
            .split(body()).parallelProcessing().executorService(senders)
                .to("direct:send")
            .end();

        from("direct:send").routeId("send")
            .errorHandler(defaultErrorHandler().maximumRedeliveries(2).redeliveryDelay(500))
            .bean("visits", "actors")
            .filter(method("visits", "missing(*, 'Practitioner')"))
                .setHeader(Exchange.HTTP_PATH, exchangeProperty("Practitioner")).to("direct:read").bean("visits", "keep(*, 'Practitioner')")
            .end()
            .filter(method("visits", "missing(*, 'Location')"))
                .setHeader(Exchange.HTTP_PATH, exchangeProperty("Location")).to("direct:read").bean("visits", "keep(*, 'Location')")
            .end()
            .setHeader(Exchange.HTTP_PATH, exchangeProperty("Patient")).to("direct:read")
            .bean("visits", "compose")
            .removeHeaders("*")
            .setHeader(Exchange.HTTP_METHOD, constant("POST"))
            .setHeader(Exchange.CONTENT_TYPE, constant("application/json"))
            .setHeader("Authorization", simple("Bearer {{META_TOKEN}}"))
            .to("{{WHATSAPP_URL}}/v23.0/{{PHONE_NUMBER_ID}}/messages")
            .bean("visits", "accepted")
            .to("sql:update inbox set state = 'sent', wamid = :#${exchangeProperty.wamid} where id = :#${exchangeProperty.id}");

        from("direct:read").routeId("read")
            .errorHandler(noErrorHandler())
            .setHeader(Exchange.HTTP_METHOD, constant("GET"))
            .setHeader("Authorization", simple("Bearer {{EHR_TOKEN}}"))
            .setBody(constant(null))
            .to("{{EHR_URL}}");

        from("platform-http:/whatsapp/hospital/webhook?httpMethodRestrict=POST").routeId("whatsapp-door")
            .convertBodyTo(byte[].class)
            .choice()
                .when(method("visits", "signed"))
                    .bean("visits", "statuses")
                    .to("sql:insert into status (wamid, status, at) values (:#wamid, :#status, :#at) on conflict do nothing?batch=true")
                    .setHeader(Exchange.HTTP_RESPONSE_CODE, constant(200))
                .otherwise()
                    .setHeader(Exchange.HTTP_RESPONSE_CODE, constant(401))
            .end()
            .setBody(constant(""));
    }
}
