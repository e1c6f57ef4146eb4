// SPDX-License-Identifier: Apache-2.0

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

/** Fetches args[0] and prints status and body; the trust store comes with javax.net.ssl.trustStore as usual. */
class Fetch {
    public static void main(String[] args) throws Exception {
        var answer = HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(args[0])).build(), BodyHandlers.ofString());
        System.out.print(answer.statusCode() + " " + answer.body());
    }
}
