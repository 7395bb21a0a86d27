package peer;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.time.OffsetDateTime;
import java.time.ZoneId;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.apache.camel.Exchange;
import org.apache.camel.Header;
import org.springframework.beans.factory.annotation.Value;
import org.springframework.stereotype.Component;

/** What the work of ../README.md means: keys, signatures, the text. Camel's routes call it as a bean. */
@Component("visits")
public class Visits {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final Locale ES = Locale.forLanguageTag("es");
    private static final DateTimeFormatter DAY = DateTimeFormatter.ofPattern("EEEE, d 'de' MMMM 'de' yyyy", ES);
    private static final DateTimeFormatter TIME = DateTimeFormatter.ofPattern("H:mm", ES);
    private static final ZoneId ZONE = ZoneId.of("Europe/Madrid");

    /** Doctors and places: few, and the same for everybody, so read once. */
    private final Map<String, JsonNode> kept = new ConcurrentHashMap<>();

    @Value("${EHR_DOOR_SECRET}") private String doorSecret;
    @Value("${META_APP_SECRET}") private String appSecret;

    public boolean allowed(@Header("Authorization") String given) {
        return same("Bearer " + doorSecret, given);
    }

    public boolean signed(byte[] body, @Header("X-Hub-Signature-256") String given) throws Exception {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(appSecret.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
        return same("sha256=" + HexFormat.of().formatHex(mac.doFinal(body)), given);
    }

    private static boolean same(String wanted, String given) {
        return given != null && MessageDigest.isEqual(wanted.getBytes(StandardCharsets.UTF_8), given.getBytes(StandardCharsets.UTF_8));
    }

    /** Sets the header `key`, and `booked` when there is something to tell. */
    public void recognise(Exchange exchange) throws Exception {
        JsonNode visit = JSON.readTree(exchange.getMessage().getBody(String.class));
        String key = "Appointment/" + visit.path("id").asText() + "/_history/" + visit.path("meta").path("versionId").asText();
        exchange.getMessage().setHeader("key", key);
        exchange.getMessage().setHeader("booked", "booked".equals(visit.path("status").asText()));
    }

    /** From a row of the inbox: which resources the visit speaks of. */
    public void actors(Exchange exchange) throws Exception {
        Map<?, ?> row = exchange.getMessage().getBody(Map.class);
        JsonNode visit = JSON.readTree((String) row.get("body"));
        exchange.setProperty("id", row.get("id"));
        exchange.setProperty("key", row.get("key"));
        exchange.setProperty("visit", visit);
        for (JsonNode each : visit.path("participant")) {
            String reference = each.path("actor").path("reference").asText();
            exchange.setProperty(reference.substring(0, reference.indexOf('/')), reference);
        }
    }

    public boolean missing(Exchange exchange, String type) {
        return !kept.containsKey(exchange.getProperty(type, String.class));
    }

    public void keep(Exchange exchange, String type) throws Exception {
        kept.put(exchange.getProperty(type, String.class), JSON.readTree(exchange.getMessage().getBody(byte[].class)));
    }

    /** The template message, as JSON, from the Patient just read. */
    public void compose(Exchange exchange) throws Exception {
        JsonNode patient = JSON.readTree(exchange.getMessage().getBody(byte[].class));
        JsonNode visit = exchange.getProperty("visit", JsonNode.class);
        var start = OffsetDateTime.parse(visit.path("start").asText()).atZoneSameInstant(ZONE);
        Map<String, String> values = new LinkedHashMap<>();
        values.put("patient_name", patient.at("/name/0/given/0").asText());
        values.put("day", DAY.format(start));
        values.put("time", TIME.format(start));
        JsonNode doctor = kept.get(exchange.getProperty("Practitioner", String.class)).at("/name/0");
        values.put("doctor", doctor.at("/prefix/0").asText() + " " + doctor.path("family").asText());
        values.put("place", kept.get(exchange.getProperty("Location", String.class)).path("name").asText());
        List<Map<String, String>> parameters = new ArrayList<>();
        values.forEach((name, text) -> parameters.add(Map.of("type", "text", "parameter_name", name, "text", text)));
        String phone = null;
        for (JsonNode each : patient.path("telecom")) {
            if (phone == null && "phone".equals(each.path("system").asText())) {
                phone = each.path("value").asText().replaceFirst("^\\+", "");
            }
        }
        if (phone == null) {
            throw new IllegalStateException(exchange.getProperty("Patient") + " has no phone");
        }
        Map<String, Object> template = Map.of("name", "appointment_booked", "language", Map.of("code", "es"),
                "components", List.of(Map.of("type", "body", "parameters", parameters)));
        exchange.getMessage().setBody(JSON.writeValueAsString(Map.of(
                "messaging_product", "whatsapp", "recipient_type", "individual", "to", phone, "type", "template",
                "template", template, "biz_opaque_callback_data", exchange.getProperty("key", String.class))));
    }

    public void accepted(Exchange exchange) throws Exception {
        JsonNode answer = JSON.readTree(exchange.getMessage().getBody(byte[].class));
        exchange.setProperty("wamid", answer.at("/messages/0/id").asText());
    }

    /** The rows that one webhook adds. */
    public List<Map<String, Object>> statuses(byte[] body) throws Exception {
        List<Map<String, Object>> rows = new ArrayList<>();
        for (JsonNode entry : JSON.readTree(body).path("entry")) {
            for (JsonNode change : entry.path("changes")) {
                for (JsonNode status : change.path("value").path("statuses")) {
                    Map<String, Object> row = new HashMap<>();
                    row.put("wamid", status.path("id").asText());
                    row.put("status", status.path("status").asText());
                    row.put("at", status.path("timestamp").asLong());
                    rows.add(row);
                }
            }
        }
        return rows;
    }
}
